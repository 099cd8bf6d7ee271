import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Installation, type InstallEvent } from '../../lib/libtorch/installation.js'
import { official } from '../helpers/libtorch-install.js'
import { newFolder } from '../helpers/scratch.js'

test('what a listener throws or rejects with ends an installation as it is, and nothing of it stays', async (t) => {
  const home = newFolder(t)
  const env = { POSTTRAIN_CACHE: home, XDG_CACHE_HOME: home, HOME: home, POSTTRAIN_OFFLINE: '1' }
  const install = (onEvent: (event: InstallEvent) => void) =>
    new Installation({ from: official, variant: 'cpu', onEvent }, env).run()
  const outcomeOf = async (onEvent: (event: InstallEvent) => void) =>
    await install(onEvent).then(
      () => 'no failure',
      (error) => ({ error }),
    )
  for (const mine of [
    new Error('mine'),
    'a text',
    undefined,
    null,
    Object.assign(new Error('EIO'), { syscall: 'open' }),
  ]) {
    const outcome = await outcomeOf(() => {
      throw mine
    })
    t.deepEqual(outcome, { error: mine })
  }
  const late = new Error('late')
  t.deepEqual(await outcomeOf(async () => Promise.reject(late)), { error: late })
  const left = readdirSync(home, { recursive: true }) as string[]
  t.deepEqual(
    left.filter((path) => /partial|\.lock|libtorch_cpu/.test(path)),
    [],
  )
  t.true((await install(() => 'a wrong type')).folder.startsWith(join(home)))
})
