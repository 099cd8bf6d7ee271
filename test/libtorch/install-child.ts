// Installs a libtorch in a process of its own, from an archive that a test has made, and tells how it went in one line.
// argv: the options of installLibtorch, then the archives of this platform by variant, both as JSON.
import { libtorchConstants } from '../../lib/libtorch/find/libtorch.js'
import { installLibtorch } from '../../lib/libtorch/install.js'
import type { InstallEvent } from '../../lib/libtorch/installation.js'

const [options, archives] = process.argv.slice(2).map((text) => JSON.parse(text))
// The one object that everybody reads.
Object.assign(libtorchConstants().archives, { [`${process.platform}-${process.arch}`]: archives })

const events: InstallEvent[] = []
const stop = new AbortController()
const onEvent = (event: InstallEvent) => {
  events.push(event)
  if (event.type === process.env.STOP_AT) stop.abort()
  if (event.type === process.env.DIE_AT) process.kill(process.pid, 'SIGKILL')
}

installLibtorch({ ...options, onEvent, signal: stop.signal })
  .then(
    (installed) => ({ installed }),
    ({ name, code, message }) => ({ error: { name, code, message } }),
  )
  .then((outcome) => process.stdout.write(`${JSON.stringify({ ...outcome, events })}\n`))
