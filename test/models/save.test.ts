import { execFile, execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { loadCore } from '../../lib/addon/load.js'
import { AdamW, CausalLM, generate, installLibtorch, Template } from '../../lib/index.js'
import { familyOf } from '../../lib/models/families/index.js'
import { saveWeights } from '../../lib/models/save.js'
import { shardsOf } from '../../lib/models/weights.js'
import { type Expected, fixture, readJson, readTensors } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyConfig, tinyModel, weightsOf } from '../helpers/tiny-training.js'
import { transformersCheck } from '../helpers/transformers.js'

type Json = Record<string, unknown>
const FAMILIES = ['gpt2', 'llama', 'mistral', 'qwen2', 'qwen2-sliding', 'qwen3', 'gemma3']

/** Names and bytes of all files. */
const snapshot = (folder: string) =>
  new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name)).toString('base64')]))

for (const name of FAMILIES) {
  test(`${name}: saved and loaded, every parameter has the same bits and every config field its value`, async (t) => {
    const folder = join(newFolder(t), 'saved')
    await using model = await CausalLM.load(fixture('models', name))
    await model.save(folder)
    await using again = await CausalLM.load(folder)
    const before = await weightsOf(model)
    t.true(before.size > 10)
    t.deepEqual(await weightsOf(again), before)
    // Read without the library under test.
    for (const [tensor, { values }] of readTensors(join(folder, 'model.safetensors')))
      t.deepEqual(values, before.get(tensor), tensor)
    const read = readJson<Json>(fixture('models', name, 'config.json'))
    const written = readJson<Json>(join(folder, 'config.json'))
    t.like(written, { ...read, dtype: 'float32' })
    t.is(written.torch_dtype, 'float32')
    t.deepEqual(readdirSync(folder).sort(), [
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    for (const file of ['tokenizer.json', 'tokenizer_config.json'])
      t.is(readFileSync(join(folder, file), 'utf8'), readFileSync(fixture('models', name, file), 'utf8'))
  })

  test.serial(`${name}: transformers opens what was saved, with equal greedy responses`, async (t) => {
    const folder = join(newFolder(t), 'saved')
    await using model = await CausalLM.load(fixture('models', name))
    await model.save(folder)
    const expected = readJson<Expected>(fixture('models', name, 'expected.json'))
    const prompts = expected.prompts.map((ids) => Int32Array.from(ids))
    const answers = await generate(model, prompts, { maxNewTokens: 14 })
    const theirs = await transformersCheck(folder, {
      prompts,
      answers: answers.map(({ tokenIds }) => tokenIds),
      maxNewTokens: 14,
      messages: [],
    })
    if (theirs === null) t.log('skipped: python3 (or POSTTRAIN_PYTHON) has no transformers')
    else t.is(theirs.equal, prompts.length)
    t.true(answers.every(({ tokenIds }) => tokenIds.length > 0))
  })
}

test("gemma3's rotations are written in both dialects and read alike; a whole soft cap is written as a float", async (t) => {
  const parent = newFolder(t)
  await using model = await CausalLM.load(fixture('models/gemma3'))
  const folder = join(parent, 'saved')
  await model.save(folder)
  const text = readFileSync(join(folder, 'config.json'), 'utf8')
  t.regex(text, /^ {2}"final_logit_softcapping": 4\.0,$/m)
  const written = JSON.parse(text) as Json
  const full = { rope_type: 'linear', factor: 8 }
  t.deepEqual(written.rope_parameters, {
    sliding_attention: { rope_type: 'default', rope_theta: 10000 },
    full_attention: { ...full, rope_theta: 1000000 },
  })
  t.deepEqual(written.rope_scaling, full)
  t.is(written.rope_theta, 1000000)
  t.is(written.rope_local_base_freq, 10000)
  const batch = { inputIds: Int32Array.from({ length: 40 }, (_, i) => i), offsets: Int32Array.of(0, 40) }
  const logits = await model.logits(batch)
  const again = async (name: string, config: Json) => {
    const other = join(parent, name)
    cpSync(folder, other, { recursive: true })
    writeFileSync(join(other, 'config.json'), JSON.stringify(config))
    await using model = await CausalLM.load(other)
    return await model.logits(batch)
  }
  const { rope_parameters, rope_scaling, rope_theta, rope_local_base_freq, layer_types, ...rest } = written
  t.deepEqual(await again('newer', { ...rest, layer_types, rope_parameters }), logits)
  // As Google's own files have it.
  const older = { ...rest, sliding_window_pattern: 2, rope_scaling, rope_theta, rope_local_base_freq }
  t.deepEqual(await again('older', older), logits)
  t.notDeepEqual(await again('thetas', { ...older, rope_local_base_freq: 20000 }), logits)
  for (const [field, value] of Object.entries({
    attn_logit_softcapping: 50,
    use_bidirectional_attention: true,
    sliding_window: null,
    layer_types: ['full_attention', 'chunked_attention'],
    rope_scaling: { type: 'linear', factor: 8 },
    num_local_experts: 4,
  })) {
    const message = new RegExp(field)
    await t.throwsAsync(again(field, { ...older, [field]: value }), {
      code: 'ERR_UNSUPPORTED_MODEL',
      message,
    })
  }
})

test('both dialects of the rotary fields are written, and both are read alike', async (t) => {
  const parent = newFolder(t)
  await using model = await CausalLM.load(fixture('models/llama'))
  const folder = join(parent, 'saved')
  await model.save(folder)
  const written = readJson<Json>(join(folder, 'config.json'))
  const scaling = {
    rope_type: 'llama3',
    factor: 4,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 16,
  }
  t.deepEqual(written.rope_parameters, { ...scaling, rope_theta: 500000 })
  t.deepEqual(written.rope_scaling, { ...scaling, type: 'llama3' })
  t.is(written.rope_theta, 500000)
  const batch = { inputIds: Int32Array.from({ length: 40 }, (_, i) => i), offsets: Int32Array.of(0, 40) }
  const logits = await model.logits(batch)
  for (const dialect of [['rope_parameters'], ['rope_scaling', 'rope_theta']]) {
    const other = join(parent, dialect[0]!)
    cpSync(folder, other, { recursive: true })
    const config = { ...written }
    for (const field of dialect) delete config[field]
    writeFileSync(join(other, 'config.json'), JSON.stringify(config))
    await using again = await CausalLM.load(other)
    t.deepEqual(await again.logits(batch), logits, `without ${dialect}`)
  }
})

test('bfloat16 and float16 asked for are written, said and read', async (t) => {
  const parent = newFolder(t)
  await using model = await tinyModel(5)
  const before = await weightsOf(model)
  for (const [dtype, name, relative] of [
    ['bfloat16', 'BF16', 2 ** -8],
    ['float16', 'F16', 2 ** -11],
  ] as const) {
    const folder = join(parent, dtype)
    await model.save(folder, { dtype })
    const config = readJson<Json>(join(folder, 'config.json'))
    t.is(config.dtype, dtype)
    t.is(config.torch_dtype, dtype)
    const { tensors } = await (await loadCore()).readHeader(join(folder, 'model.safetensors'))
    t.true(tensors.every((tensor) => tensor.dtype === name))
    await using again = await CausalLM.load(folder)
    t.is(again.dtype, 'float32')
    for (const [parameter, values] of await weightsOf(again)) {
      const whole = before.get(parameter)!
      // 2 ** -25: half of the smallest step of float16.
      t.true(
        values.every((value, i) => Math.abs(value - whole[i]!) <= relative * Math.abs(whole[i]!) + 2 ** -25),
      )
      if (parameter.endsWith('q_proj.weight')) t.notDeepEqual(values, whole)
    }
  }
})

test('a folder already there is refused without overwrite and stays; with it, it is replaced whole', async (t) => {
  const parent = newFolder(t)
  const folder = join(parent, 'saved')
  await using first = await tinyModel(1)
  await using second = await tinyModel(2)
  await first.save(folder)
  const before = snapshot(folder)
  await t.throwsAsync(second.save(folder), {
    code: 'ERR_IO',
    message: /saved already exists: set option overwrite/,
  })
  t.deepEqual(snapshot(folder), before)
  t.deepEqual(readdirSync(parent), ['saved'])
  writeFileSync(join(folder, 'model-00001-of-00002.safetensors'), 'of an older save')
  await second.save(folder, { overwrite: true })
  t.deepEqual([...snapshot(folder).keys()].sort(), [...before.keys()].sort())
  t.deepEqual(readdirSync(parent), ['saved'])
  await using again = await CausalLM.load(folder)
  t.deepEqual(await weightsOf(again), await weightsOf(second))
})

test('shards: each below the limit, all tensors in order, an index that says where; the folder loads', async (t) => {
  const parent = newFolder(t)
  const [folder, cut] = [join(parent, 'whole'), join(parent, 'cut')]
  await using model = await tinyModel(3)
  await model.save(folder)
  cpSync(folder, cut, { recursive: true })
  rmSync(join(cut, 'model.safetensors'))
  const family = familyOf(tinyConfig)
  const entries = family.weights(family.decoder(tinyConfig))
  const weights = await weightsOf(model)
  const sized = entries.map((entry) => ({ entry, values: weights.get(entry.name)!.length }))
  const { shards, index } = shardsOf(sized, 'float32', 20_000)
  t.true(shards.length > 3)
  t.deepEqual(
    shards.flatMap((shard) => shard.entries),
    entries,
  )
  for (const [i, shard] of shards.entries()) {
    const number = (n: number) => String(n).padStart(5, '0')
    t.is(shard.file, `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`)
    const bytes = shard.entries.reduce((sum, { name }) => sum + 4 * weights.get(name)!.length, 0)
    t.true(bytes <= 20_000 || shard.entries.length === 1, `${shard.file}: ${bytes}`)
  }
  const { metadata, weight_map: map } = index!
  t.is(
    metadata.total_size,
    [...weights.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
  )
  t.deepEqual(Object.keys(map).sort(), entries.map(({ name }) => name).sort())

  await saveWeights(model.role, cut, { dtype: 'float32', limit: 20_000 })
  t.deepEqual(readJson<{ weight_map: object }>(join(cut, 'model.safetensors.index.json')).weight_map, map)
  await using again = await CausalLM.load(cut)
  t.deepEqual(await weightsOf(again), weights)
  // What fits into one file has no index.
  t.deepEqual(
    { ...shardsOf(sized, 'float32'), shards: shardsOf(sized, 'float32').shards.map(({ file }) => file) },
    { shards: ['model.safetensors'], index: null },
  )
})

test('the template of a training is saved, and its terminator is among the stop ids', async (t) => {
  const parent = newFolder(t)
  const source = fixture('models/llama')
  const start = join(parent, 'start')
  cpSync(source, start, { recursive: true })
  const path = join(start, 'tokenizer.json')
  const tokenizer = readJson<{ added_tokens: Json[] }>(path)
  const end = { ...tokenizer.added_tokens[0], id: 66, content: '<|im_end|>' }
  tokenizer.added_tokens.push(end)
  writeFileSync(path, JSON.stringify(tokenizer))
  await using model = await CausalLM.load(start)
  t.is(model.chatTemplate, null)
  t.deepEqual(model.stopIds, [0])
  const template = Template.fromSource(
    "{% for m in messages %}{{ m.role + ':' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
  )
  model.adoptTemplate(template)
  const folder = join(parent, 'saved')
  await model.save(folder)
  t.is(readFileSync(join(folder, 'chat_template.jinja'), 'utf8'), template.sourceFor(model.tokenizer))
  t.deepEqual(readJson<Json>(join(folder, 'generation_config.json')).eos_token_id, [0, 66])
  await using again = await CausalLM.load(folder)
  t.is(again.chatTemplate, model.chatTemplate)
  t.deepEqual(again.stopIds, [0, 66])
  // One of its own is kept.
  again.adoptTemplate(Template.fromSource('{{ messages[0].content }}'))
  t.is(again.chatTemplate, model.chatTemplate)
})

test('a save that fails leaves the old folder as it was, and nothing beside it', async (t) => {
  const parent = newFolder(t)
  const folder = join(parent, 'saved')
  await using model = await tinyModel(1)
  await model.save(folder)
  const before = snapshot(folder)
  const aborted = new AbortController()
  aborted.abort()
  const error = await t.throwsAsync(model.save(folder, { overwrite: true, signal: aborted.signal }))
  t.is(error?.name, 'AbortError')
  t.deepEqual(snapshot(folder), before)
  t.deepEqual(readdirSync(parent), ['saved'])
  const file = join(parent, 'file')
  writeFileSync(file, 'x')
  await t.throwsAsync(model.save(join(file, 'saved')), {
    code: 'ERR_IO',
    message: /creating the folder of .*file.saved failed/,
  })
  await t.throwsAsync(model.save(file, { overwrite: false }), { code: 'ERR_IO' })
  t.is(readFileSync(file, 'utf8'), 'x')
  t.deepEqual(readdirSync(parent).sort(), ['file', 'saved'])
})

for (const [what, limit] of [
  ['into a folder that may not be written', ':'],
  ['onto a full disk', 'ulimit -f 100'],
] as const) {
  test(`a save ${what} is ERR_IO and leaves the old folder as it was`, async (t) => {
    const parent = newFolder(t)
    const folder = join(parent, 'saved')
    await using model = await tinyModel(1)
    await model.save(folder)
    const before = snapshot(folder)
    if (limit === ':') {
      if (process.getuid?.() === 0) {
        // Root may write anywhere but into /proc.
        t.false(existsSync('/proc/posttrain-saved'))
        await t.throwsAsync(model.save('/proc/posttrain-saved'), {
          code: 'ERR_IO',
          message: /posttrain-saved failed/,
        })
        return
      }
      chmodSync(parent, 0o500)
      await t.throwsAsync(model.save(folder, { overwrite: true }), {
        code: 'ERR_IO',
        message: /permission denied/,
      })
      chmodSync(parent, 0o700)
    } else {
      const child = fileURLToPath(new URL('save-child.js', import.meta.url))
      const script = `${limit}; exec "$0" "$@"`
      const { stdout } = await promisify(execFile)('sh', ['-c', script, process.execPath, child, folder])
      const said = JSON.parse(stdout) as { code: string; message: string }
      t.is(said.code, 'ERR_IO')
      t.regex(said.message, /model\.safetensors failed: File too large/)
    }
    t.deepEqual(snapshot(folder), before)
    t.deepEqual(readdirSync(parent), ['saved'])
    await using again = await CausalLM.load(folder)
    t.deepEqual(await weightsOf(again), await weightsOf(model))
  })
}

test('what is neither a file nor a folder is never replaced, nor waited for', async (t) => {
  const folder = newFolder(t)
  const [pipe, link, file] = ['pipe', 'link', 'file'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  execFileSync('mkfifo', [pipe])
  symlinkSync('pipe', link)
  writeFileSync(file, 'mine')
  await using model = await tinyModel()
  await model.addAdapter('a')
  for (const path of [pipe, link, file]) {
    const refused = { code: 'ERR_IO', message: /it is there and is not a folder$/ }
    await t.throwsAsync(model.saveAdapter(path, { overwrite: true }), refused)
    await t.throwsAsync(model.saveAdapter(path), refused)
    await model.setAdapter(null)
    await t.throwsAsync(model.save(path, { overwrite: true }), refused)
    await model.setAdapter('a')
  }
  await using adam = new AdamW(model, { learningRate: 0 })
  for (const path of [pipe, link, folder]) {
    const refused = { code: 'ERR_IO', message: /it is there and is not a file$/ }
    await t.throwsAsync(model.saveWeights(path), refused)
    await t.throwsAsync(adam.save(path), refused)
  }
  await t.throwsAsync(installLibtorch({ from: pipe }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /it is neither a file nor a folder/,
  })
  t.true(lstatSync(pipe).isFIFO())
  t.true(lstatSync(link).isSymbolicLink())
  t.is(readFileSync(file, 'utf8'), 'mine')
  t.deepEqual(readdirSync(folder).sort(), ['file', 'link', 'pipe'])
})
