import test from 'ava'
import { loadHooks } from './hooks.js'

const { core, hooks } = await loadHooks()
const mebibyte = 2 ** 20

test.serial('an allocation that fails is a typed error, and the next one works', async (t) => {
  for (const after of [0, 1, 3]) {
    hooks.failAllocation(after)
    await t.throwsAsync(hooks.allocate(4 * mebibyte, 8), {
      code: 'ERR_OUT_OF_MEMORY',
      message: /4194304 bytes could not be allocated.*batchSize/,
    })
    await t.notThrowsAsync(hooks.allocate(4 * mebibyte, 8))
  }
  hooks.failAllocation(-1)
})

test.serial('more than the machine has is a typed error', async (t) => {
  await t.throwsAsync(hooks.allocate(2 ** 50, 1), { code: 'ERR_OUT_OF_MEMORY' })
})

test.serial('large blocks are reused and not piled up', async (t) => {
  await hooks.allocate(16 * mebibyte, 2)
  const resident = process.memoryUsage().rss
  await hooks.allocate(16 * mebibyte, 200)
  t.true(process.memoryUsage().rss - resident < 32 * mebibyte)
  for (let size = 1; size <= 24; size++) await hooks.allocate(size * mebibyte, 1)
  const { keptBytes } = await hooks.objects()
  t.true(keptBytes > 0 && keptBytes <= 32 * mebibyte, `${keptBytes} bytes are kept`)
  t.is((await core.info()).allocatedBytes, 0)
})

test.serial('dispose gives back what was kept', async (t) => {
  const object = await hooks.createObject(1)
  await hooks.allocate(16 * mebibyte, 1)
  await core.dispose(object as never)
  t.is((await hooks.objects()).keptBytes, 0)
})

test.serial('small tensors are counted too', async (t) => {
  const object = await hooks.createObject(1000)
  const { allocatedBytes } = await core.info()
  t.true(allocatedBytes >= 1000 && allocatedBytes < 2000, `${allocatedBytes} bytes`)
  await core.dispose(object as never)
  t.is((await core.info()).allocatedBytes, 0)
})
