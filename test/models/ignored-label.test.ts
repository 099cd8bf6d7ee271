import test from 'ava'
import { CausalLM } from '../../lib/index.js'
import { fixture } from '../helpers/fixtures.js'

const inputIds = Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6)
const ones = new Float64Array(8).fill(1)

test('an ignoreIndex holds for all terms of a backward, whatever their order; two of them are refused', async (t) => {
  await using model = await CausalLM.load(fixture('models', 'llama'))
  const batch = { inputIds, offsets: Int32Array.of(0, 8), labels: inputIds.map((id) => (id === 1 ? 0 : id)) }
  const crossEntropy = { kind: 'crossEntropy', ignoreIndex: 0 } as const
  const weighted = { kind: 'weightedLogProb', weights: ones } as const
  for (const terms of [
    [crossEntropy, weighted],
    [weighted, crossEntropy],
  ]) {
    const sums = await model.evaluate(batch, terms)
    t.deepEqual(
      sums.map(({ count }) => count),
      [5, 5],
    )
  }
  await t.throwsAsync(model.evaluate(batch, [{ kind: 'crossEntropy' }, crossEntropy]), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /ignoreIndex 0 cannot be combined with -100/,
  })
})
