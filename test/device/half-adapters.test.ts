// Adapters on a base in bfloat16, whose A and B are roundings of float32 values: on the CPU through the stand-ins of CUDA's
// operations.
import { join } from 'node:path'
import test from 'ava'
import { AdamW, sft } from '../../lib/index.js'
import type { SftOptions } from '../../lib/train/options/options.generated.js'
import { adapted, openAdapter } from '../helpers/adapters.js'
import { distance, norm } from '../helpers/close.js'
import { fixture, readJson, readTensors } from '../helpers/fixtures.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { useStandInDevice } from '../helpers/stand-in-device.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

await useStandInDevice()
const TERM = { kind: 'crossEntropy' } as const

/** How far PEFT's own run in bfloat16 is off. */
const half = readJson<Record<string, { logits: number; gradients: number }>>(
  join(fixture('adapters'), 'half.json'),
)

test("in bfloat16 logits and gradients are no further off than PEFT's", async (t) => {
  const ratios: { logits: number; gradients: number }[] = []
  for (const [name, theirs] of Object.entries(half)) {
    const { batch, tensors, truth, expected } = openAdapter(name)
    await using model = await adapted(name)
    const parameters = await model.parameters()
    t.true(parameters.every(({ dtype }) => dtype === 'bfloat16'))
    const logits = distance(await model.logits(batch), truth) / norm(truth)
    await model.backward(batch, TERM)
    let [off, all] = [0, 0]
    for (const key of Object.keys(expected.gradients)) {
      const { values } = tensors.get(`grad.${key}`)!
      off += distance((await model.getGradient(key)).values, values) ** 2
      all += norm(values) ** 2
    }
    const gradients = Math.sqrt(off / all)
    t.log(`${name}: logits ${logits} of ${theirs.logits}, gradients ${gradients} of ${theirs.gradients}`)
    ratios.push({ logits: logits / theirs.logits, gradients: gradients / theirs.gradients })
  }
  for (const what of ['logits', 'gradients'] as const) {
    const all = ratios.map((ratio) => ratio[what])
    // Either run rounds in its own places, which moves a model of 24 columns by some tenths.
    t.true(Math.max(...all) < 1.25)
    t.true(all.reduce((product, ratio) => product * ratio, 1) < 1)
  }
})

test('an adapter on a base in bfloat16 is saved as the float32 values that it was loaded with', async (t) => {
  for (const name of ['llama', 'llama-head', 'llama-dora', 'llama-pissa']) {
    const { folder } = openAdapter(name)
    const saved = join(newFolder(t), name)
    await using model = await adapted(name)
    await model.saveAdapter(saved)
    const read = (of: string) =>
      new Map(
        [...readTensors(join(of, 'adapter_model.safetensors'))]
          .filter(([key]) => key.includes('lora_'))
          .sort(),
      )
    t.deepEqual(read(saved), read(folder))
  }
})

test('steps too small for bfloat16 add up in the float32 values', async (t) => {
  await using model = await adapted('llama')
  const name = (await model.parameters()).find(({ trainable }) => trainable)!.name
  const before = (await model.getParameter(name)).values
  await using optimizer = new AdamW(model, { learningRate: 1e-6, weightDecay: 0 })
  for (let step = 0; step < 3; step++) {
    await model.backward(openAdapter('llama').batch, TERM)
    await optimizer.step()
  }
  const after = (await model.getParameter(name)).values
  const moved = Math.max(...after.map((value, i) => Math.abs(value - before[i]!)))
  t.true(moved > 2e-6 && moved < 4e-6, `${moved}`)
})

test("the state of an optimizer has no weights of an adapter, which are the model's", async (t) => {
  await using model = await adapted('llama')
  const { batch } = openAdapter('llama')
  await using optimizer = new AdamW(model, { learningRate: 1e-2 })
  const file = join(newFolder(t), 'optimizer.safetensors')
  const step = async () => {
    await model.backward(batch, TERM)
    await optimizer.step()
    await model.zeroGrad()
  }
  await step()
  await optimizer.save(file)
  t.false([...readTensors(file).keys()].some((name) => name.endsWith('.master')))
  await step()
  const [weights, logits] = [await weightsOf(model), await model.logits(batch)]
  await optimizer.load(file)
  t.deepEqual(await weightsOf(model), weights)
  t.deepEqual(await model.logits(batch), logits)
})

for (const moments of ['float32', 'bfloat16', '8bit'] as const)
  test(`weights in bfloat16 follow their float32 values with moments in ${moments}`, async (t) => {
    await using model = await tinyModel()
    const before = await weightsOf(model)
    await using optimizer = new AdamW(model, { learningRate: 1e-2, moments })
    const { batch } = openAdapter('llama')
    const logits = await model.logits(batch)
    await model.backward(batch, TERM)
    await optimizer.step()
    const after = await weightsOf(model)
    for (const [name, values] of after) {
      const old = before.get(name)!
      // What has a gradient moves by about the learning rate in a first step.
      if (name.includes('mlp')) t.true(distance(values, old) > 1e-3 * norm(old), name)
    }
    t.true(distance(await model.logits(batch), logits) > 1e-3 * norm(logits))
  })

const options = {
  data: instructionRows(22),
  template: 'plain',
  maxLength: 64,
  learningRate: 3e-3,
  batchSize: 3,
  epochs: 2,
  seed: 3,
  lora: { rank: 4, dropout: 0.1 },
} satisfies Partial<SftOptions>

test('a run with LoRA on bfloat16 that was stopped goes on to the same bits', async (t) => {
  await using whole = await tinyModel()
  for await (const _ of sft({ ...options, model: whole }));
  const output = cleanFolder(t)
  {
    await using model = await tinyModel()
    const run = sft({ ...options, model, output })
    for await (const event of run) if (event.type === 'step' && event.step === 5) run.stop()
  }
  await using again = await tinyModel()
  for await (const _ of sft({ ...options, model: again, output, resume: true }));
  t.deepEqual(await weightsOf(again), await weightsOf(whole))
})
