/**
 * The trainer's own process: Electron's utilityProcess, or one forked by child_process. Training in the main process
 * would work, but an app whose trainer runs out of memory should lose only the trainer.
 *
 * Exit codes: 0 after `quit`, or when the parent process is gone; 1 after an uncaught error.
 */
import type { ParentPort } from 'electron'
import type { Port, Report } from './protocol.js'
import { errorReport, serve } from './trainer.js'

interface OwnProcess extends Port<unknown, Report> {
  /** Ends the process once all posted messages are sent. */
  exit(code: number): void
}

function utility(parent: ParentPort): OwnProcess {
  return {
    postMessage: (report) => parent.postMessage(report),
    on: (_, listener) => parent.on('message', ({ data }) => listener(data)),
    exit: (code) => process.exit(code),
  }
}

function forked(): OwnProcess {
  let sent = Promise.resolve()
  return {
    postMessage(report) {
      if (process.connected)
        sent = new Promise((done) => process.send!(report, undefined, undefined, () => done()))
    },
    on(_, listener) {
      process.on('message', listener)
      process.on('disconnect', () => listener({ type: 'quit' }))
    },
    exit: (code) => void sent.then(() => process.exit(code)),
  }
}

const { parentPort } = process as { parentPort?: ParentPort }
const port = parentPort ? utility(parentPort) : forked()

function fail(error: unknown): void {
  port.postMessage(errorReport('process', error))
  port.exit(1)
}
process.on('uncaughtException', fail)
serve(port).then(() => port.exit(0), fail)
