import { setMaxListeners } from 'node:events'
import { realpath } from 'node:fs/promises'
import { AbortError, PosttrainError } from '../errors.js'
import { Asker, Unfinished } from './ask.js'
import { openEndpoint } from './endpoint.js'
import type { DistillEvent, DistilledRow } from './events.js'
import type { ResolvedDistillOptions } from './options.js'
import { RowFile } from './row-file.js'
import type { DistillControl } from './run.js'
import { readSeeds } from './seeds.js'
import { eachSeed, extending, type Task, type Tasks } from './tasks.js'
import { type Teacher, TeacherFailure } from './teacher.js'

/** Runs all tasks and yields their events: each seed is sent to the teacher, each usable answer becomes a row. */
export async function* makeRows(
  options: ResolvedDistillOptions,
  control: DistillControl,
): AsyncGenerator<DistillEvent, void> {
  const { signal, mode, concurrency, output } = options
  if (signal?.aborted) throw new AbortError(signal.reason)
  if (typeof options.data === 'string') await refuseSame(options.data, output)
  const file = await RowFile.lock(output, options)
  // Signal of this run: aborted with `signal`, and when the run ends early.
  const aborting = new AbortController()
  setMaxListeners(0, aborting.signal, control.halt)
  const onAbort = () => {
    aborting.abort(signal?.reason)
    control.stop()
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  const running = new Set<Promise<void>>()
  let teacher: Teacher | null = null
  try {
    const { seeds, duplicates, badRows } = await readSeeds(options.data, options)
    teacher = await openTeacher(options, aborting.signal)
    if (signal?.aborted) throw new AbortError(signal.reason)
    const { rows, repaired } = await file.open(options)
    control.rows = rows.length
    const asker = new Asker(teacher, options, {
      signal: aborting.signal,
      halt: control.halt,
      retry: (event) => control.emit(event),
    })
    control.asker = asker
    let failures = 0
    const write = async (row: DistilledRow) => {
      await file.append(row)
      failures = 0
      control.written++
      control.emit({ type: 'row', done: ++control.rows, total: tasks.total, row })
    }
    const failed = ({ seedId, origin }: Pick<Task, 'seedId' | 'origin'>, failure: TeacherFailure) => {
      control.failed++
      failures++
      control.emit({ type: 'failure', seedId, origin, reason: failure.message })
      if (failures < options.maxFailures) return
      throw new PosttrainError(
        failure.kind === 'transport' ? 'ERR_IO' : 'ERR_DATA',
        `distill: ${failures} failures in a row, the last one ${origin}: ${failure.message}; the finished rows are in ${output}, set option resume to continue`,
      )
    }
    const context = { options, seeds, rows, asker, control, write, failed }
    const tasks = mode === 'extend' ? extending(context) : eachSeed(context)
    control.total = tasks.total
    yield {
      type: 'start',
      mode,
      teacher: teacher.name,
      output,
      seeds: seeds.length,
      duplicates,
      badRows,
      finished: rows.length,
      total: tasks.total,
      repaired,
    }
    yield* runTasks(tasks, { control, concurrency, running, failed })
    if (signal?.aborted) throw new AbortError(signal.reason)
    yield control.end()
  } finally {
    signal?.removeEventListener('abort', onAbort)
    aborting.abort()
    await Promise.all(running)
    await teacher?.close()
    await file.close()
  }
}

/** Runs `concurrency` tasks at once and yields their events, until none is left or one fails the run. */
async function* runTasks(
  tasks: Tasks,
  pool: {
    control: DistillControl
    concurrency: number
    running: Set<Promise<void>>
    failed: (task: Task, failure: TeacherFailure) => void
  },
): AsyncGenerator<DistillEvent, void> {
  const { control, concurrency, running, failed } = pool
  let broken: { error: unknown } | null = null
  const start = (task: Task) => {
    const done = task
      .work()
      .catch((error: unknown) => {
        if (error instanceof TeacherFailure) failed(task, error)
        else if (!(error instanceof Unfinished)) throw error
      })
      .catch((error: unknown) => {
        broken ??= { error }
      })
      .finally(() => {
        running.delete(done)
        control.wake()
      })
    running.add(done)
  }
  for (;;) {
    while (!broken && !control.halt.aborted && running.size < concurrency) {
      const task = tasks.next()
      if (task === null) break
      start(task)
    }
    const events = control.take()
    for (const event of events) yield event
    if (broken) throw (broken as { error: unknown }).error
    if (events.length > 0) continue
    if (running.size === 0) break
    await control.changed()
  }
}

async function openTeacher(options: ResolvedDistillOptions, signal: AbortSignal): Promise<Teacher> {
  const { endpoint, model, timeoutMs, concurrency } = options
  if (endpoint) return openEndpoint(endpoint, timeoutMs)
  // The native core is loaded only for a local model.
  const { openLocalModel } = await import('./local-model.js')
  return openLocalModel(model!, concurrency, signal)
}

async function refuseSame(data: string, output: string): Promise<void> {
  const [from, to] = await Promise.all([data, output].map((path) => realpath(path).catch(() => null)))
  if (from !== null && from === to) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `distill: output ${output} is the seed file itself: use another output`,
    )
  }
}
