import { loadCore } from '../../lib/addon/load.js'
import { CausalLM, generate, sft } from '../../lib/index.js'
import { device, onDevice } from '../helpers/cuda.js'
import { instructionRows, tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

/** Weights after a few steps on rows of unequal lengths. */
async function trained(lora: boolean): Promise<Float32Array[]> {
  await using model = await CausalLM.create(tinyConfig, {
    device: device!,
    tokenizer: byteTokenizer(),
    deterministic: true,
    seed: 1,
  })
  const run = sft({
    model,
    data: instructionRows(64),
    template: 'plain',
    maxLength: 64,
    learningRate: 3e-3,
    batchSize: 32,
    maxSteps: 10,
    ...(lora && { lora: { rank: 8, dropout: 0.1 } }),
  })
  await run.finish()
  const values: Float32Array[] = []
  for (const { name } of await model.parameters()) values.push((await model.getParameter(name)).values)
  return values
}

onDevice('a process may become deterministic after it has computed, and draws then as before', async (t) => {
  const load = (deterministic: boolean) =>
    CausalLM.create(tinyConfig, { device: device!, tokenizer: byteTokenizer(), deterministic, seed: 1 })
  const options = { maxNewTokens: 20, temperature: 1, seed: 3, stopIds: [] }
  await using plain = await load(false)
  const drawn = await generate(plain, ['abc', 'de'], options)
  await using model = await load(true)
  for (const of of [plain, model]) {
    const again = await generate(of, ['abc', 'de'], options)
    t.deepEqual(
      again.map(({ tokenIds }) => [...tokenIds]),
      drawn.map(({ tokenIds }) => [...tokenIds]),
    )
  }
})

onDevice('a run that sums in one order repeats to the bit', async (t) => {
  for (const lora of [false, true]) {
    const first = await trained(lora)
    t.true(first.length > 0)
    t.deepEqual(await trained(lora), first)
  }
  t.true((await (await loadCore()).info()).deterministic)
})
