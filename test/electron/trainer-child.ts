import { type ChildProcess, fork } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import type { Command, Report, TrainChoice } from '../../examples/electron/src/protocol.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

type Of<Type extends Report['type']> = Extract<Report, { type: Type }>

/** Of a test, or of who cleans up elsewhere. */
type Owner = Pick<ExecutionContext, 'teardown'>

/** The trainer of the Electron example in a process made by fork, which stands in for a utilityProcess. */
export class TrainerChild {
  readonly process: ChildProcess
  readonly exit: Promise<number | null>
  /** All that has come so far. */
  readonly reports: Report[] = []
  #seen = 0
  #arrived = () => {}

  constructor(t: Owner, options: { path?: string; execArgv?: string[]; env?: NodeJS.ProcessEnv } = {}) {
    const path =
      options.path ??
      fileURLToPath(new URL('../../examples/electron/src/trainer-process.js', import.meta.url))
    this.process = fork(path, {
      execArgv: options.execArgv ?? [],
      env: { ...process.env, OMP_NUM_THREADS: '1', ...options.env },
    })
    this.exit = new Promise((done) =>
      this.process.once('exit', (code) => {
        done(code)
        this.#arrived()
      }),
    )
    this.process.on('message', (report: Report) => {
      this.reports.push(report)
      this.#arrived()
    })
    t.teardown(() => this.process.kill('SIGKILL'))
  }

  send(command: Command): void {
    this.process.send(command)
  }

  /** The next report of this type after those that were waited for; an error that is not waited for rejects. */
  async next<Type extends Report['type']>(type: Type): Promise<Of<Type>> {
    for (;;) {
      while (this.#seen < this.reports.length) {
        const report = this.reports[this.#seen++]!
        if (report.type === type) return report as Of<Type>
        if (report.type === 'error') throw new Error(`${report.during}: ${report.code}: ${report.message}`)
      }
      if (this.process.exitCode !== null || this.process.signalCode !== null)
        throw new Error(`The trainer ended (${this.process.exitCode}) before it told '${type}'`)
      await new Promise<void>((done) => {
        this.#arrived = done
      })
    }
  }

  of<Type extends Report['type']>(type: Type): Of<Type>[] {
    return this.reports.filter((report): report is Of<Type> => report.type === type)
  }
}

/** A tiny model and rows in files, and what to choose for a run with them. */
export async function choiceOf(
  t: Owner,
  rows: number,
  choice: Partial<TrainChoice> = {},
): Promise<TrainChoice> {
  const output = cleanFolder(t)
  const [model, data] = [join(dirname(output), 'model'), join(dirname(output), 'rows.jsonl')]
  await using tiny = await tinyModel()
  await tiny.save(model)
  writeFileSync(
    data,
    instructionRows(rows)
      .map((row) => JSON.stringify(row))
      .join('\n'),
  )
  return {
    model,
    data,
    output,
    resume: false,
    epochs: 1,
    batchSize: 8,
    learningRate: 1e-3,
    lora: false,
    ...choice,
  }
}
