import test from 'ava'
import { prefetch } from '../../lib/train/supervised/prefetch.js'

test('the next item is made while the one before is used, one ahead and no more', async (t) => {
  const made: number[] = []
  async function* source() {
    for (let i = 0; i < 4; i++) {
      made.push(i)
      yield i
    }
  }
  const seen: number[] = []
  for await (const item of prefetch(source())) {
    await new Promise((resolve) => setTimeout(resolve, 5))
    seen.push(item)
    t.deepEqual(made, [0, 1, 2, 3].slice(0, item + 2))
  }
  t.deepEqual(seen, [0, 1, 2, 3])
})

test('a failure comes in its turn, and leaving early closes the source', async (t) => {
  let closed = false
  async function* source() {
    try {
      yield 1
      throw new Error('bad row')
    } finally {
      closed = true
    }
  }
  const seen: number[] = []
  await t.throwsAsync(
    async () => {
      for await (const item of prefetch(source())) {
        await new Promise((resolve) => setTimeout(resolve, 5))
        seen.push(item)
      }
    },
    { message: 'bad row' },
  )
  t.deepEqual(seen, [1])
  closed = false
  for await (const _ of prefetch(source())) break
  t.true(closed)
})
