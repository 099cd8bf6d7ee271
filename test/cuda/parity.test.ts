import { AdamW, CausalLM, generate } from '../../lib/index.js'
import { adapted, openAdapter } from '../helpers/adapters.js'
import { close, distance, norm } from '../helpers/close.js'
import { compared, device, onDevice } from '../helpers/cuda.js'
import { type Expected, fixture, packed, readJson } from '../helpers/fixtures.js'

const FAMILIES = ['gpt2', 'llama', 'mistral', 'qwen2', 'qwen2-sliding', 'qwen3', 'gemma3']
const TERM = { kind: 'crossEntropy' } as const

const open = (name: string) => ({
  folder: fixture('models', name),
  expected: readJson<Expected>(fixture('models', name, 'expected.json')),
})

/** The gradients of every parameter, one behind the other. */
async function gradients(model: CausalLM): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>()
  for (const { name, trainable } of await model.parameters())
    if (trainable) all.set(name, (await model.getGradient(name)).values)
  return all
}

/** Off by at most 1e-4 of the norm of all gradients together. */
function closeGradients(
  t: Parameters<typeof close>[0],
  actual: Map<string, Float32Array>,
  expected: Map<string, Float32Array>,
): void {
  let [off, all] = [0, 0]
  for (const [name, values] of expected) {
    off += distance(actual.get(name)!, values) ** 2
    all += norm(values) ** 2
  }
  t.true(all > 0)
  t.true(Math.sqrt(off / all) <= 1e-4, `the gradients are off by ${Math.sqrt(off / all)}`)
}

for (const name of FAMILIES) {
  onDevice(`${name}: logits, loss and gradients in float32 are those of the CPU`, async (t) => {
    const { folder, expected } = open(name)
    const batch = packed(expected)
    await using cpu = await compared(() => CausalLM.load(folder, { device: 'cpu' }))
    await using model = await CausalLM.load(folder, { device: device!, dtype: 'float32' })
    t.is(model.device, device!)
    close(t, await model.logits(batch), await cpu.logits(batch), { absolute: 1e-4 }, 'logits')
    const reference = await cpu.backward(batch, TERM)
    for (const checkpointing of [false, true]) {
      const { loss } = await model.backward(batch, TERM, { checkpointing })
      close(t, loss, reference.loss, { absolute: 1e-5 }, 'loss')
      closeGradients(t, await gradients(model), await gradients(cpu))
      await model.zeroGrad()
    }
  })

  onDevice(
    `${name}: the norms of five steps, and greedy answers of a ragged batch, are transformers'`,
    async (t) => {
      const { folder, expected } = open(name)
      const { learningRate, weightDecay, maxGradNorm, steps } = expected.optimizer
      await using model = await CausalLM.load(folder, { device: device!, dtype: 'float32' })
      const prompts = expected.prompts.map((ids) => Int32Array.from(ids))
      const answers = await generate(model, prompts, { maxNewTokens: 14, stopIds: [] })
      t.deepEqual(
        answers.map(({ tokenIds }) => [...tokenIds]),
        expected.continuations,
      )
      await using optimizer = new AdamW(model, { learningRate, weightDecay })
      for (let step = 0; step < steps; step++) {
        await optimizer.zeroGrad()
        const { loss } = await model.backward(packed(expected), TERM)
        close(t, loss, expected.losses[step]!, { absolute: 1e-4 }, `loss of step ${step}`)
        const { gradNorm, applied } = await optimizer.step({ maxGradNorm })
        t.true(applied)
        close(t, gradNorm, expected.gradNorms[step]!, { relative: 1e-3 }, `gradient norm of step ${step}`)
      }
    },
  )
}

for (const name of ['gpt2-dora', 'llama', 'llama-rslora', 'qwen3']) {
  onDevice(`${name} with an adapter: logits and gradients in float32 are those of the CPU`, async (t) => {
    const { batch } = openAdapter(name)
    await using cpu = await compared(() => adapted(name, { device: 'cpu' }))
    await using model = await adapted(name, { device: device!, dtype: 'float32' })
    close(t, await model.logits(batch), await cpu.logits(batch), { absolute: 1e-4 }, 'logits')
    const reference = await cpu.backward(batch, TERM)
    close(t, (await model.backward(batch, TERM)).loss, reference.loss, { absolute: 1e-5 }, 'loss')
    closeGradients(t, await gradients(model), await gradients(cpu))
  })
}
