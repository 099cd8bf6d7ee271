import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { CausalLM, dpo, generate, ppo, RewardModel, reward, sft } from '../../lib/index.js'
import { close, distance, norm } from '../helpers/close.js'
import { fixture, readTensors } from '../helpers/fixtures.js'
import { eventsOf, lossesOf } from '../helpers/run.js'
import { newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const expected = readTensors(fixture('nf4', 'expected.safetensors'))
const values = (name: string) => Float32Array.from(expected.get(name)!.values)
const IDS = Int32Array.from(values('ids'))
const SHOWN = ['model.layers.0.self_attn.k_proj', 'model.layers.0.mlp.down_proj']
const TERM = { kind: 'crossEntropy' } as const

/** A model folder of the fixtures with a tokenizer. */
async function folderOf(t: ExecutionContext, name: string): Promise<string> {
  const folder = newFolder(t)
  await cp(fixture('nf4', name), folder, { recursive: true })
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(fixture('models', 'llama', file), join(folder, file))
  return folder
}

const batch = { inputIds: IDS, offsets: Int32Array.of(0, IDS.length), labels: IDS }

for (const name of ['double', 'single'])
  test(`a folder that bitsandbytes saved (${name} quantization) has the values that it decodes, to the bit`, async (t) => {
    await using model = await CausalLM.load(await folderOf(t, name))
    for (const module of SHOWN) {
      const { values: own } = await model.getParameter(`${module}.weight`)
      t.deepEqual(own, values(`${name}.${module}`), module)
    }
    const dtypes = new Map((await model.parameters()).map(({ name, dtype }) => [name, dtype]))
    t.is(dtypes.get(`${SHOWN[0]}.weight`), 'nf4')
    t.is(dtypes.get('model.embed_tokens.weight'), 'float32')
  })

test('weights are quantized as bitsandbytes quantizes them', async (t) => {
  await using model = await CausalLM.load(await folderOf(t, 'plain'), { quantize: 'nf4' })
  for (const module of SHOWN)
    t.deepEqual((await model.getParameter(`${module}.weight`)).values, values(`plain.${module}`), module)
})

test('logits, loss and gradients of an adapter are those of PEFT', async (t) => {
  await using model = await CausalLM.load(await folderOf(t, 'double'))
  close(t, await model.logits(batch), values('logits'), { absolute: 1e-4 }, 'logits')
  await model.loadAdapter('peft', fixture('nf4', 'adapter'))
  const { loss } = await model.backward(batch, TERM)
  t.true(Math.abs(loss - values('loss')[0]!) < 1e-5, `${loss}`)
  const gradients = [...expected.keys()].filter((key) => key.startsWith('grad.'))
  t.is(gradients.length, 8)
  for (const key of gradients) {
    const { values: own } = await model.getGradient(key.replace('grad.', ''))
    t.true(distance(own, values(key)) < 1e-4 * norm(values(key)), key)
  }
})

const small = { inputIds: Int32Array.of(1, 2, 3, 4), offsets: Int32Array.of(0, 4) }

/** A tiny model in 4 bits; the rows of its matrices fill whole blocks. */
const tiny = (more: object = {}) =>
  CausalLM.create(
    { ...tinyConfig, hidden_size: 64, head_dim: 16 },
    { tokenizer: byteTokenizer(), quantize: 'nf4', ...more },
  )

test('what is decoded token by token has the log-probabilities of a forward', async (t) => {
  await using model = await tiny()
  await model.addAdapter('a', { rank: 4 })
  const promptIds = Int32Array.of(5, 9, 77)
  const [row] = await generate(model, [promptIds], {
    maxNewTokens: 12,
    temperature: 1,
    seed: 1,
    logProbs: true,
  })
  const [truth] = await model.logProbs([{ promptIds, completionIds: Int32Array.from(row!.tokenIds) }])
  close(t, row!.logProbs!, truth!.perToken, { absolute: 1e-4 }, 'log-probs')
})

test('an adapter is trained upon 4 bits by every kind of recipe, and the base stays as it is', async (t) => {
  await using model = await tiny()
  const name = 'model.layers.0.mlp.up_proj.weight'
  const before = await model.getParameter(name)
  const shared = { model, lora: { rank: 8, alpha: 64 }, learningRate: 1e-2, template: 'none' as const }
  const data = instructionRows(8)
  const losses = lossesOf(await eventsOf(sft({ ...shared, data, maxSteps: 30, batchSize: 4 })))
  t.true(losses.at(-1)! < 0.7 * losses[0]!, `${losses[0]} to ${losses.at(-1)}`)
  t.deepEqual(await model.getParameter(name), before)

  const pairs = data.map(({ instruction, output }) => ({
    prompt: instruction,
    chosen: output,
    rejected: 'no',
  }))
  await model.setAdapter(null)
  await eventsOf(dpo({ ...shared, data: pairs, maxSteps: 2, batchSize: 4 }))
  await model.setAdapter(null)
  await using judge = await RewardModel.fromCausalLM(model)
  await eventsOf(reward({ ...shared, model: judge, data: pairs, maxSteps: 2, batchSize: 4 }))
  await eventsOf(
    ppo({
      ...shared,
      data: data.map(({ instruction }) => ({ prompt: instruction })),
      reward: judge,
      iterations: 2,
      batchSize: 4,
      maxNewTokens: 6,
    }),
  )
  t.deepEqual(await model.getParameter(name), before)
})

test('what cannot be done with weights in 4 bits is refused with what to do instead', async (t) => {
  const folder = newFolder(t)
  await using model = await tiny()
  const invalid = (message: RegExp) => ({ code: 'ERR_INVALID_ARGUMENT', message })
  await t.throwsAsync(
    async () => {
      for await (const _ of sft({ model, data: instructionRows(2), maxSteps: 1, template: 'none' })) {
      }
    },
    invalid(/in 4 bits and frozen: train an adapter upon them with lora/),
  )
  await t.throwsAsync(model.save(join(folder, 'a')), invalid(/saveAdapter\(\); posttrain merge/))
  await model.addAdapter('a', { rank: 4 })
  await t.throwsAsync(model.mergeAdapter(), invalid(/cannot be merged into weights in 4 bits/))
  await t.throwsAsync(
    model.getGradient('model.layers.0.mlp.up_proj.weight'),
    invalid(/frozen in 4 bits and has no gradient/),
  )
  await model.saveAdapter(join(folder, 'adapter'))
  await using plain = await tiny({ quantize: undefined })
  await plain.loadAdapter('a', join(folder, 'adapter'))
  await plain.mergeAdapter()
})

test('a clone of a model in 4 bits has its values', async (t) => {
  await using model = await tiny()
  await using clone = await model.clone()
  t.deepEqual(await clone.logits(small), await model.logits(small))
  t.is((await clone.parameters()).find(({ name }) => name.includes('q_proj'))!.dtype, 'nf4')
})
