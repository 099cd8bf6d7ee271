import { readFileSync, rmSync, writeFileSync } from 'node:fs'
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
    t.is(dtypes.get('model.layers.1.mlp.down_proj.weight'), name === 'double' ? 'float32' : 'nf4')
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
  // More tokens than the product that reads the codes takes: the forward decodes the weights.
  const promptIds = Int32Array.from({ length: 40 }, (_, i) => (i * 7) % 256)
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

/** The tensors of a safetensors file, as bytes. */
function partsOf(path: string) {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => ({
        name,
        dtype,
        shape,
        data: bytes.subarray(8 + length + from, 8 + length + to),
      }),
    )
}

function writeParts(path: string, parts: ReturnType<typeof partsOf>) {
  let at = 0
  const header: Record<string, object> = {}
  for (const { name, dtype, shape, data } of parts) {
    header[name] = { dtype, shape, data_offsets: [at, at + data.length] }
    at += data.length
  }
  const text = Buffer.from(JSON.stringify(header))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(path, Buffer.concat([size, text, ...parts.map(({ data }) => data)]))
}

test('what belongs to a weight in 4 bits may lie in another shard', async (t) => {
  const folder = await folderOf(t, 'double')
  const parts = partsOf(join(folder, 'model.safetensors'))
  rmSync(join(folder, 'model.safetensors'))
  const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
  const isBeside = (name: string) => /down_proj\.weight\./.test(name)
  writeParts(
    join(folder, first),
    parts.filter(({ name }) => !isBeside(name)),
  )
  writeParts(
    join(folder, second),
    parts.filter(({ name }) => isBeside(name)),
  )
  const map = Object.fromEntries(parts.map(({ name }) => [name, isBeside(name) ? second : first]))
  writeFileSync(
    join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: map }),
  )
  await using model = await CausalLM.load(folder)
  for (const module of SHOWN)
    t.deepEqual((await model.getParameter(`${module}.weight`)).values, values(`double.${module}`), module)
})

test('files in 4 bits are read so without a word in config.json', async (t) => {
  const folder = await folderOf(t, 'double')
  const path = join(folder, 'config.json')
  const { quantization_config: _, ...config } = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify(config))
  await using model = await CausalLM.load(folder)
  close(t, await model.logits(batch), values('logits'), { absolute: 1e-4 }, 'logits')
})

const STATE = 'model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4'
for (const [what, change, message] of [
  [
    'another shape',
    (json: string) => json.replace('[64, 41]', '[41, 64]'),
    /gives another shape than \[64, 41\]/,
  ],
  [
    'an offset beyond float32',
    (json: string) => json.replace(/0\.25\d+/, '1e300'),
    /has a scale that is not finite/,
  ],
  [
    'blocks of 128',
    (json: string) => json.replace('"blocksize": 64', '"blocksize": 128'),
    /blocks of another size than 64/,
  ],
  ['no offset', (json: string) => json.replace('nested_offset', 'offset'), /has no number nested_offset/],
] as const)
  test(`a weight in 4 bits with ${what} is refused by name`, async (t) => {
    const folder = await folderOf(t, 'double')
    const path = join(folder, 'model.safetensors')
    writeParts(
      path,
      partsOf(path).map((part) => {
        if (part.name !== STATE) return part
        const data = Buffer.from(change(part.data.toString()))
        t.notDeepEqual(data, part.data)
        return { ...part, shape: [data.length], data }
      }),
    )
    await t.throwsAsync(CausalLM.load(folder), { code: 'ERR_INVALID_FILE', message })
  })

for (const part of ['.absmax', '.nested_absmax', '.nested_quant_map', '.quant_map'])
  test(`a weight in 4 bits without its ${part} is refused by name`, async (t) => {
    const folder = await folderOf(t, 'double')
    const path = join(folder, 'model.safetensors')
    const name = `model.layers.0.mlp.down_proj.weight${part}`
    writeParts(
      path,
      partsOf(path).filter((own) => own.name !== name),
    )
    await t.throwsAsync(CausalLM.load(folder), { code: 'ERR_INVALID_FILE', message: /down_proj\.weight/ })
  })

test('a weight in 4 bits where only others can be so is refused by name', async (t) => {
  const folder = await folderOf(t, 'double')
  const path = join(folder, 'model.safetensors')
  const parts = partsOf(path)
  const head = parts.find(({ name }) => name === 'lm_head.weight')!
  writeParts(path, [...parts, { ...head, name: 'lm_head.weight.quant_state.bitsandbytes__nf4' }])
  await t.throwsAsync(CausalLM.load(folder), {
    code: 'ERR_UNSUPPORTED_MODEL',
    message: /lm_head\.weight is in 4 bits; only linear layers of the blocks are read so/,
  })
})

test('a weight that the folder keeps in its own dtype keeps it when it is set', async (t) => {
  await using model = await CausalLM.load(await folderOf(t, 'double'))
  const name = 'model.layers.1.mlp.down_proj.weight'
  const before = await model.getParameter(name)
  await model.setParameter(name, before.values)
  t.deepEqual(await model.getParameter(name), before)
})

test('a value that is not finite is refused by name where weights are quantized', async (t) => {
  const folder = await folderOf(t, 'plain')
  const path = join(folder, 'model.safetensors')
  const name = 'model.layers.1.self_attn.v_proj.weight'
  writeParts(
    path,
    partsOf(path).map((part) => {
      if (part.name !== name) return part
      const data = Buffer.from(part.data)
      // Infinity in bfloat16.
      data.writeUInt16LE(0x7f80, 200)
      return { ...part, data }
    }),
  )
  await t.throwsAsync(CausalLM.load(folder, { quantize: 'nf4' }), {
    code: 'ERR_INVALID_FILE',
    message: /v_proj\.weight has a value that is not finite, which 4 bits cannot hold/,
  })
})
