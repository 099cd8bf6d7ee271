import test from 'ava'
import { toBatch } from '../../lib/index.js'
import { tinyModel, weightsOf } from '../helpers/tiny-training.js'

const term = { kind: 'crossEntropy' } as const

test('rows of token ids become one packed batch, whose loss and gradient are those of the padded form', async (t) => {
  const batch = toBatch([
    { inputIds: [5, 8, 13, 2], labels: [-100, -100, 13, 2] },
    { inputIds: Int32Array.of(5, 9), labels: [-100, 9] },
  ])
  t.deepEqual(batch, {
    inputIds: Int32Array.of(5, 8, 13, 2, 5, 9),
    labels: Int32Array.of(-100, -100, 13, 2, -100, 9),
    offsets: Int32Array.of(0, 4, 6),
  })
  await using model = await tinyModel()
  const padded = {
    inputIds: Int32Array.of(5, 8, 13, 2, 5, 9, 0, 0),
    attentionMask: Int32Array.of(1, 1, 1, 1, 1, 1, 0, 0),
    labels: Int32Array.of(-100, -100, 13, 2, -100, 9, -100, -100),
    rows: 2,
    columns: 4,
  }
  const before = await weightsOf(model)
  t.is((await model.backward(batch, term)).loss, (await model.evaluate(padded, term)).loss)
  t.deepEqual(await weightsOf(model), before)
})

test('rows without labels, and with weights', (t) => {
  const bare = toBatch([[1, 2, 3], Int32Array.of(4)])
  t.deepEqual(bare, { inputIds: Int32Array.of(1, 2, 3, 4), offsets: Int32Array.of(0, 3, 4) })
  const { weights } = toBatch([
    { inputIds: [1, 2], labels: [-100, 2], weight: 0.5 },
    { inputIds: [3, 4], labels: [-100, 4] },
  ])
  t.deepEqual(weights, Float32Array.of(0.5, 0.5, 1, 1))
})

test('rows that are no batch are refused by row and position', (t) => {
  const refused = (rows: unknown, message: RegExp) =>
    t.throws(() => toBatch(rows as never), { code: 'ERR_INVALID_ARGUMENT', message })
  refused(undefined, /needs a list of at least one row/)
  refused([], /needs a list of at least one row/)
  refused([[1], []], /row 1 is empty/)
  refused([null], /row 0 must be \{ inputIds, labels \}/)
  refused(['abc'], /row 0 must be/)
  refused([{ labels: [1] }], /row 0 has no inputIds/)
  refused([[1, 2.5]], /row 0 has 2\.5 at inputIds\[1\], which is no token id/)
  refused([[1, -100]], /row 0 has -100 at inputIds\[1\]/)
  refused([{ inputIds: [1, 2], labels: [-1, 2] }], /row 0 has -1 at labels\[0\]/)
  refused([{ inputIds: [1, 2], labels: [2] }], /row 0 has 1 labels for 2 tokens/)
  refused([{ inputIds: [1, 2], labels: [1, 2] }, [3]], /1 of 2 rows have labels/)
  refused([{ inputIds: [1, 2], labels: [1, 2], weight: -1 }], /row 0 has the weight -1/)
})
