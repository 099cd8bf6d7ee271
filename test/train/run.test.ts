import test from 'ava'
import type { EndEvent, TrainEvent } from '../../lib/train/run/events.js'
import { Run, type RunControl } from '../../lib/train/run/run.js'

/** A recipe that counts its steps, and what was done to it. */
function counting(steps: number, log: string[] = []) {
  return async function* (control: RunControl): AsyncGenerator<TrainEvent, EndEvent> {
    let step = 0
    const end = (reason: EndEvent['reason']): EndEvent => {
      return { type: 'end', reason, steps: step, epochs: 1, loss: 0, seconds: 0 }
    }
    log.push('begin')
    control.save = async () => {
      log.push(`save ${step}`)
      return `step-${step}`
    }
    control.summary = end
    try {
      while (step < steps && !control.stop.aborted) {
        await new Promise((resolve) => setTimeout(resolve, 1))
        step++
        log.push(`step ${step}`)
        yield { type: 'warning', code: 'noLabels', step, message: '' }
      }
      return end(control.stop.aborted ? 'stopped' : 'completed')
    } finally {
      log.push('released')
    }
  }
}

const message = async (promise: Promise<unknown>) => promise.then(String, (error: Error) => error.message)

test('starts at the first pull, and finish() drains', async (t) => {
  const log: string[] = []
  const run = new Run(counting(2, log))
  await new Promise((resolve) => setTimeout(resolve, 5))
  t.deepEqual(log, [])
  t.like(await run.finish(), { reason: 'completed', steps: 2 })
  t.like(await run.finish(), { reason: 'completed', steps: 2 })
  t.deepEqual(log, ['begin', 'step 1', 'step 2', 'released'])
})

test('the end event is the last, and finish() gives it after the loop', async (t) => {
  const run = new Run(counting(2))
  const types: string[] = []
  for await (const event of run) types.push(event.type)
  t.deepEqual(types, ['warning', 'warning', 'end'])
  t.like(await run.finish(), { type: 'end', steps: 2 })
})

test('await using ends a run after its last complete step, without saving', async (t) => {
  const log: string[] = []
  let left: Run
  {
    await using run = new Run(counting(5, log))
    left = run
    await run[Symbol.asyncIterator]().next()
  }
  t.deepEqual(log, ['begin', 'step 1', 'released'])
  t.like(await left.finish(), { reason: 'stopped', steps: 1 })
  {
    await using run = new Run(counting(1, log))
    t.like(await run.finish(), { reason: 'completed' })
  }
  await using _unstarted = new Run(counting(1, log))
  t.is(log.length, 6)
})

test('not pulling pauses', async (t) => {
  const log: string[] = []
  const events = new Run(counting(5, log))[Symbol.asyncIterator]()
  await events.next()
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.deepEqual(log, ['begin', 'step 1'])
  await events.return?.()
})

test('break ends it, releases, and finish() says what was done', async (t) => {
  const log: string[] = []
  const run = new Run(counting(5, log))
  for await (const event of run) if (event.type === 'warning' && event.step === 2) break
  t.deepEqual(log, ['begin', 'step 1', 'step 2', 'released'])
  t.like(await run.finish(), { reason: 'stopped', steps: 2 })
})

test('stop() ends after the step under way', async (t) => {
  const run = new Run(counting(50))
  const done = run.finish()
  run.stop()
  const { reason, steps } = await done
  t.is(reason, 'stopped')
  t.true(steps <= 1)
})

test('one consumer', async (t) => {
  const run = new Run(counting(3))
  const events = run[Symbol.asyncIterator]()
  await events.next()
  t.throws(() => run[Symbol.asyncIterator](), { message: /one consumer/ })
  t.regex(await message(run.finish()), /leave the loop first/)
  await events.return?.()
})

test('save() waits for the step under way, and is refused before the start and after the end', async (t) => {
  const log: string[] = []
  const run = new Run(counting(3, log))
  t.is(await message(run.save()), 'save(): the run has not started')
  const events = run[Symbol.asyncIterator]()
  const first = events.next()
  t.is(await run.save(), 'step-1')
  await first
  await events.next()
  t.is(await run.save(), 'step-2')
  t.deepEqual(log, ['begin', 'step 1', 'save 1', 'step 2', 'save 2'])
  await events.return?.()
  t.is(await message(run.save()), 'save(): the run has ended')
})

test('a failure rejects the pull and finish() alike, and releases', async (t) => {
  const broken = new Error('broken')
  const run = new Run(async function* () {
    yield { type: 'warning', code: 'noLabels', step: 1, message: '' }
    throw broken
  })
  const seen: string[] = []
  const error = await t.throwsAsync(async () => {
    for await (const event of run) seen.push(event.type)
  })
  t.is(error, broken)
  t.is(await t.throwsAsync(run.finish()), broken)
  t.deepEqual(seen, ['warning'])
})

test('a pull after the end, and two pulls at once, are harmless', async (t) => {
  const events = new Run(counting(2))[Symbol.asyncIterator]()
  const results = await Promise.all([events.next(), events.next(), events.next(), events.next()])
  t.deepEqual(
    results.map(({ done, value }) => (done ? 'done' : value?.type)),
    ['warning', 'warning', 'end', 'done'],
  )
})
