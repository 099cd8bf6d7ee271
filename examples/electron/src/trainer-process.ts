/**
 * The trainer's own process: Electron's utilityProcess, or one that child_process.fork made. Training in the main
 * process would work, but an app whose trainer runs out of memory should lose the trainer alone.
 *
 * Exit codes: 0 after `quit`, or when the process that started it is gone; 1 after an error that nobody caught.
 */
import type { ParentPort } from 'electron'
import type { Port, Report } from './protocol.js'
import { errorReport, serve } from './trainer.js'

interface OwnProcess extends Port<unknown, Report> {
  /** Ends the process when all that was posted is on its way. */
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
