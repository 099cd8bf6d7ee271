import { monitorEventLoopDelay } from 'node:perf_hooks'
import test from 'ava'
import { loadHooks, wait } from './hooks.js'

const { core, hooks } = await loadHooks()

test.serial('jobs end in the order in which they were called', async (t) => {
  const ended: number[] = []
  await Promise.all([20, 0, 5, 0, 1].map((ms, i) => hooks.sleepJob(ms).then(() => ended.push(i))))
  t.deepEqual(ended, [0, 1, 2, 3, 4])
})

test.serial('the event loop stays free while torch computes', async (t) => {
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  await hooks.busyJob(500)
  delay.disable()
  t.true(delay.count > 20, `${delay.count} turns of the loop`)
  t.true(delay.percentile(50) / 1e6 < 50, `median delay ${delay.percentile(50) / 1e6} ms`)
})

test.serial('a waiting job that is canceled rejects at once, and the next ones go on', async (t) => {
  const cancel = core.createCancel()
  let ended = false
  const first = hooks.sleepJob(300).then(() => {
    ended = true
  })
  const second = hooks.sleepJob(10_000, cancel)
  const third = hooks.sleepJob(1)
  core.cancel(cancel)
  await t.throwsAsync(second, { code: 'ABORT_ERR', name: 'AbortError' })
  t.false(ended)
  await Promise.all([first, third])
})

test.serial('a running job that is canceled rejects when it looks at its flag', async (t) => {
  const cancel = core.createCancel()
  const job = hooks.busyJob(10_000, cancel)
  const start = performance.now()
  setTimeout(() => core.cancel(cancel), 50)
  await t.throwsAsync(job, { code: 'ABORT_ERR' })
  t.true(performance.now() - start < 5000)
})

test.serial('one flag cancels all its jobs and no others', async (t) => {
  const cancel = core.createCancel()
  const mine = [hooks.sleepJob(10_000, cancel), hooks.sleepJob(10_000, cancel)]
  const other = hooks.sleepJob(1, core.createCancel())
  core.cancel(cancel)
  core.cancel(cancel)
  const outcomes = await Promise.allSettled([...mine, other])
  t.deepEqual(
    outcomes.map((outcome) => outcome.status),
    ['rejected', 'rejected', 'fulfilled'],
  )
  await t.throwsAsync(hooks.sleepJob(1, cancel), { code: 'ABORT_ERR' }, 'a raised flag stays raised')
})

test.serial('threads are set once for the process', async (t) => {
  const { threads } = await core.info()
  await core.configure({ threads })
  await core.configure({})
  await t.throwsAsync(core.configure({ threads: threads + 1 }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /already/,
  })
  for (const bad of [0, -1, 1.5, Number.NaN, 1e12, '2']) {
    await t.throwsAsync(core.configure({ threads: bad as number }), { code: 'ERR_INVALID_ARGUMENT' })
  }
  await t.throwsAsync(core.configure(undefined as never), { code: 'ERR_INVALID_ARGUMENT' })
  t.true(hooks.defaultThreads() >= 1)
})

test.serial('two thousand empty jobs leave nothing behind', async (t) => {
  const resident = () => {
    globalThis.gc?.()
    return process.memoryUsage().rss
  }
  for (let i = 0; i < 1000; i++) await hooks.sleepJob(0)
  const before = resident()
  for (let i = 0; i < 2000; i++) await hooks.sleepJob(0)
  await wait(10)
  const slope = (resident() - before) / 2000
  t.true(slope < 1000, `${slope} bytes a job`)
  t.is((await core.info()).liveHandles, 0)
})
