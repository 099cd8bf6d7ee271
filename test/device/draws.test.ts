import test from 'ava'
import { CausalLM, type GenerateOptions, generate } from '../../lib/index.js'
import { close } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'

// Tokens are drawn where the logits lie, by operations that the CPU has too; see cuda-calls.test.ts.
process.env.POSTTRAIN_TEST_HOOKS = '1'
process.env.POSTTRAIN_TEST_DEVICE = 'cpu'
process.env.POSTTRAIN_KERNELS = 'cuda'
const { compared } = await import('../helpers/cuda.js')

const prompts = ['abc', 'Hello world 12', 'z', 'one two three', 'The', 'abcabcabc', '0']
const samplings: [string, GenerateOptions][] = [
  ['greedy', { temperature: 0 }],
  ['greedy with a penalty', { temperature: 0, repetitionPenalty: 1.4 }],
  ['temperature', { temperature: 0.7, seed: 5 }],
  ['top-k', { temperature: 1, topK: 5, seed: 6 }],
  ['top-k of all', { temperature: 1.5, topK: 1_000_000, seed: 7 }],
  ['top-p', { temperature: 1.2, topP: 0.6, seed: 8 }],
  ['top-p of one', { temperature: 1, topP: 1e-6 }],
  ['min-p', { temperature: 2, minP: 0.2 }],
  ['everything', { temperature: 0.9, topK: 40, topP: 0.9, minP: 0.01, repetitionPenalty: 1.2 }],
]

for (const [name, sampling] of samplings) {
  test.serial(`what a device draws is what the host draws: ${name}`, async (t) => {
    const folder = fixture('models', 'llama')
    await using here = await compared(() => CausalLM.load(folder))
    await using there = await CausalLM.load(folder)
    // Rows that stop within a burst, and prompts that wait for their places
    const options = {
      maxNewTokens: 21,
      batchSize: 3,
      stopIds: [3, 11, 17, 25, 40, 51],
      logProbs: true,
      ...sampling,
    }
    const expected = await generate(here, prompts, options)
    const drawn = await generate(there, prompts, options)
    for (const [i, { tokenIds, logProbs }] of drawn.entries()) {
      t.deepEqual([...tokenIds], [...expected[i]!.tokenIds])
      close(t, logProbs!, expected[i]!.logProbs!, { absolute: 1e-4 })
    }
  })
}

test.serial('logits that are not finite are an error on a device, too', async (t) => {
  await using model = await CausalLM.load(fixture('models', 'llama'))
  const { name, shape } = (await model.parameters())[0]!
  await model.setParameter(name, new Float32Array(shape.reduce((a, b) => a * b)).fill(Number.NaN))
  for (const temperature of [0, 1])
    await t.throwsAsync(generate(model, prompts, { temperature, maxNewTokens: 3 }), {
      code: 'ERR_NON_FINITE',
    })
})
