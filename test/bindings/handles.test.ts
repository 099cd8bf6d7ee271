import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { loadHooks, type TestHandle, wait } from './hooks.js'

const { core, hooks } = await loadHooks()
const dispose = (object: TestHandle) => core.dispose(object as never)
setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')
const disposed = { code: 'ERR_DISPOSED' }

test.serial(
  'dispose while the handle is in use cancels its jobs, refuses new ones, and then resolves',
  async (t) => {
    const object = await hooks.createObject(8 << 20)
    const other = await hooks.createObject(8)
    const running = hooks.useObject(object, 10_000)
    const waiting = hooks.useObject(object, 10_000)
    const untouched = hooks.useObject(other, 1)
    await wait(20)
    const gone = dispose(object)
    const late = hooks.useObject(object, 1)
    await Promise.all([running, waiting, late].map((job) => t.throwsAsync(job, disposed)))
    await gone
    await untouched
    t.is((await hooks.objects()).live, 1)
    await dispose(object)
    await t.throwsAsync(hooks.useObject(object, 1), disposed)
    await dispose(other)
    t.deepEqual(await hooks.objects(), { live: 0, freedElsewhere: 0, keptBytes: 0 })
    t.is((await core.info()).allocatedBytes, 0)
  },
)

test.serial('an abort and a dispose at once: the first one names the error', async (t) => {
  const object = await hooks.createObject(8)
  const cancel = core.createCancel()
  const blocker = hooks.sleepJob(20)
  const job = hooks.useObject(object, 10_000, cancel)
  core.cancel(cancel)
  const gone = dispose(object)
  await t.throwsAsync(job, { code: 'ABORT_ERR' })
  await Promise.all([blocker, gone])
})

test.serial('handles that are collected free their objects, on the torch thread', async (t) => {
  const before = await hooks.objects()
  await (async () => {
    for (let i = 0; i < 50; i++) await hooks.createObject(1 << 20)
  })()
  t.true((await hooks.objects()).live > before.live)
  for (let i = 0; i < 20 && (await hooks.objects()).live > 0; i++) {
    collect()
    await wait(10)
  }
  const after = await hooks.objects()
  t.is(after.live, 0)
  t.is(after.freedElsewhere, 0)
  const { allocatedBytes, liveHandles } = await core.info()
  t.is(allocatedBytes, 0)
  t.is(liveHandles, 0)
})

test.serial('a job keeps the object of a collected handle', async (t) => {
  const job = await (async () => {
    const object = await hooks.createObject(8)
    return { ended: hooks.useObject(object, 100) }
  })()
  await wait(10)
  collect()
  await wait(10)
  await t.notThrowsAsync(job.ended)
})

test.serial('V8 is told of the memory, so that handles nobody disposes are collected in time', async (t) => {
  let most = 0
  for (let i = 0; i < 100; i++) {
    await hooks.createObject(64 << 20)
    most = Math.max(most, (await core.info()).allocatedBytes)
    await wait(1)
  }
  t.true(most < 50 * (64 << 20), `${most / 2 ** 20} MiB at once`)
  collect()
  await wait(10)
})

test.serial('two hundred random rounds of use, abort and dispose', async (t) => {
  // A linear congruential generator, so that a failure can be run again.
  let state = 12345
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  for (let round = 0; round < 200; round++) {
    const objects = await Promise.all([hooks.createObject(1 << 20), hooks.createObject(100)])
    const cancel = core.createCancel()
    const jobs = Array.from({ length: 1 + random(4) }, () =>
      hooks.useObject(objects[random(2)]!, random(4), random(2) === 0 ? cancel : undefined),
    )
    const outcomes = Promise.allSettled(jobs)
    if (random(2) === 0) await wait(random(4))
    if (random(2) === 0) core.cancel(cancel)
    const gone = random(3) === 0 ? [] : [dispose(objects[0]!)]
    for (const outcome of await outcomes) {
      if (outcome.status === 'fulfilled') continue
      t.true(['ABORT_ERR', 'ERR_DISPOSED'].includes(outcome.reason.code), String(outcome.reason))
    }
    await Promise.all([...gone, ...objects.map(dispose)])
  }
  const { live, freedElsewhere } = await hooks.objects()
  t.deepEqual({ live, freedElsewhere }, { live: 0, freedElsewhere: 0 })
  t.is((await core.info()).liveHandles, 0)
})
