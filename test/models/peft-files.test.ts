import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { CausalLM } from '../../lib/index.js'
import { readPeftConfig } from '../../lib/models/peft-config.js'
import { shapeOfPeft } from '../../lib/models/peft-shape.js'
import { adapted, openAdapter } from '../helpers/adapters.js'
import { close } from '../helpers/close.js'
import { fixture, readJson } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'

type Json = Record<string, unknown>
type Tensor = { dtype: string; shape: number[]; data_offsets: [number, number] }

const FILE = 'adapter_model.safetensors'

/** A copy of PEFT's adapter with other names in its file (null leaves a tensor out), and other fields in its config. */
function changed(
  t: ExecutionContext,
  name: string,
  nameOf: (name: string) => string | null,
  fields: Json = {},
): string {
  const folder = join(newFolder(t), 'adapter')
  cpSync(fixture('adapters', name), folder, { recursive: true })
  const bytes = readFileSync(join(folder, FILE))
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, start).toString()) as Record<string, Tensor>
  const kept: Record<string, Tensor> = {}
  const data: Buffer[] = []
  let at = 0
  for (const [old, tensor] of Object.entries(header)) {
    const now = old === '__metadata__' ? null : nameOf(old)
    if (now === null) continue
    const [from, to] = tensor.data_offsets
    kept[now] = { ...tensor, data_offsets: [at, at + to - from] }
    data.push(bytes.subarray(start + from, start + to))
    at += to - from
  }
  const text = Buffer.from(JSON.stringify(kept))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(join(folder, FILE), Buffer.concat([size, text, ...data]))
  const path = join(folder, 'adapter_config.json')
  writeFileSync(path, JSON.stringify({ ...readJson<Json>(path), ...fields }))
  return folder
}

const same = (name: string) => name
const PREFIX = 'base_model.model.'

test("names with PEFT's own `default` in them, as in the state of its model, are the same adapter", async (t) => {
  const withDefault = (name: string) =>
    name
      .replace(/(lora_[AB])\.weight$/, '$1.default.weight')
      .replace(/(lora_embedding_[AB])$/, '$1.default')
      .replace(/(lora_magnitude_vector)$/, '$1.default.weight')
  for (const name of ['llama-dora', 'qwen3-embeddings']) {
    const { base, batch } = openAdapter(name)
    await using model = await CausalLM.load(base)
    const folder = changed(t, name, withDefault)
    t.true(readFileSync(join(folder, FILE)).includes('.default'))
    await model.loadAdapter('other', folder)
    await using own = await adapted(name)
    t.deepEqual(await model.logits(batch), await own.logits(batch), name)
  }
})

test('a file with a part of what its config names, or more, is refused with the names', async (t) => {
  await using llama = await CausalLM.load(fixture('models', 'llama'))
  await using qwen2 = await CausalLM.load(fixture('models', 'qwen2'))
  await using qwen3 = await CausalLM.load(fixture('models', 'qwen3'))
  const without = (part: RegExp) => (name: string) => (part.test(name) ? null : name)
  for (const [model, folder, message] of [
    [
      llama,
      changed(t, 'llama-subset', without(/1\.mlp\.down_proj/)),
      /no update of model\.layers\.1\.mlp\.down_proj, which target_modules .* names: the file is incomplete/,
    ],
    [llama, changed(t, 'llama-subset', without(/q_proj/)), /no update of .*0\.self_attn\.q_proj, .*1\./],
    [llama, changed(t, 'llama-subset', without(/0\.self_attn\.q_proj\.lora_B/)), /has no .*q_proj\.lora_B/],
    [
      llama,
      changed(t, 'llama-subset', same, { target_modules: ['q_proj'] }),
      /an update of .*down_proj, .* does not name, so that PEFT leaves it out/,
    ],
    [
      llama,
      changed(t, 'llama-layers', same, { layers_to_transform: [0] }),
      /no update of .*layers\.0\.self_attn\.q_proj/,
    ],
    [
      llama,
      changed(t, 'llama-subset', same, { exclude_modules: ['layers.0.self_attn.q_proj'] }),
      /an update of model\.layers\.0\.self_attn\.q_proj, which/,
    ],
    [llama, changed(t, 'llama-subset', same, { exclude_modules: '.*down.*' }), /an update of .*down_proj/],
    [qwen2, changed(t, 'qwen2-regex', without(/up_proj/)), /no update of model\.layers\.1\.mlp\.up_proj/],
    [
      qwen2,
      changed(t, 'qwen2-bias', without(/1\.self_attn\.v_proj.*bias/)),
      /no .*1\..*v_proj.*bias, .*bias in/,
    ],
    [
      qwen3,
      changed(t, 'qwen3-saved', without(/norm\.weight/)),
      /no model\.layers\.0\.input_layernorm\.weight, .* which modules_to_save/,
    ],
  ] as const)
    await t.throwsAsync(model.loadAdapter('part', folder), { code: 'ERR_INVALID_FILE', message })
})

test("an adapter of an older PEFT, which saved no biases, has the base's, and trains them", async (t) => {
  const { base, batch } = openAdapter('qwen2-bias')
  await using model = await CausalLM.load(base)
  const folder = changed(t, 'qwen2-bias', (name) => (name.endsWith('bias') ? null : name))
  await model.loadAdapter('older', folder)
  await using plain = await CausalLM.load(base)
  const key = `${PREFIX}model.layers.0.self_attn.q_proj.base_layer.bias`
  const bias = await model.getParameter(key)
  t.deepEqual(bias, await plain.getParameter('model.layers.0.self_attn.q_proj.bias'))
  t.true((await model.parameters()).find(({ name }) => name === key)!.trainable)
  await using whole = await adapted('qwen2-bias')
  t.notDeepEqual(await whole.getParameter(key), bias)
  const again = join(newFolder(t), 'again')
  await model.saveAdapter(again)
  await model.loadAdapter('again', again)
  t.deepEqual(await model.getParameter(key), bias)
  // Saved by their old names, as with bias 'all', they count, and are saved by the new ones.
  const old = changed(t, 'qwen2-bias', (name) => name.replace('base_layer.bias', 'bias'))
  await model.loadAdapter('old', old)
  t.deepEqual(await model.logits(batch), await whole.logits(batch))
  await model.saveAdapter(again, { overwrite: true })
  await model.loadAdapter('renamed', again)
  t.deepEqual(await model.logits(batch), await whole.logits(batch))
})

test('targets that are an expression with edges of words have the shape of those with the names', async (t) => {
  await using model = await CausalLM.load(fixture('models', 'llama'))
  const shapeOf = async (target_modules: unknown) => {
    const { saved: _, ...shape } = shapeOfPeft(
      await readPeftConfig(changed(t, 'llama', same, { target_modules })),
      model.role.base,
    )
    return shape
  }
  const named = await shapeOf(['q_proj', 'down_proj'])
  t.is(named.modules.length, 4)
  for (const expression of [
    // As Unsloth exports them.
    String.raw`(?:.*?(?:self_attn|mlp|\-).*?(?:\bq_proj\b|\bdown_proj\b).*?)`,
    String.raw`(?:\bmodel\.layers\.[\d\-\ ]{1,}\.\w+\.(?P<last>\bq_proj|\bdow\Bn\_proj))`,
  ])
    t.deepEqual(await shapeOf(expression), named, expression)
  for (const [targets, message] of [
    [String.raw`.*\bproj\b`, /target_modules ".*proj.*" names no module of this model/],
    [String.raw`(q)_proj\1`, /target_modules .* cannot be matched/],
    [null, /target_modules \[\] leaves the modules to a default of PEFT/],
  ] as const)
    await t.throwsAsync(shapeOf(targets), { code: 'ERR_INVALID_FILE', message })
})

test('names that a wrapper of the model changed are refused with the wrapper', async (t) => {
  await using model = await CausalLM.load(fixture('models', 'llama'))
  for (const [nameOf, message] of [
    [(name: string) => `module.${name}`, /has the module of a wrapper \(DistributedDataParallel/],
    [(name: string) => `_orig_mod.${name}`, /has the _orig_mod of a wrapper/],
    [(name: string) => name.replace(PREFIX, `${PREFIX}_orig_mod.`), /has the _orig_mod of a wrapper/],
    [(name: string) => name.replace(PREFIX, ''), /does not begin with base_model\.model\./],
  ] as const)
    await t.throwsAsync(model.loadAdapter('wrapped', changed(t, 'llama', nameOf)), {
      code: 'ERR_INVALID_FILE',
      message,
    })
})

test('a header of 640 bytes, whose size begins as a pickle does, is read', async (t) => {
  const folder = changed(t, 'llama', same)
  const path = join(folder, FILE)
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const target = Math.ceil((length - 0x280) / 0x10000) * 0x10000 + 0x280
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(target))
  t.deepEqual([...size.subarray(0, 2)], [0x80, 0x02])
  const header = Buffer.from(
    bytes
      .subarray(8, 8 + length)
      .toString()
      .padEnd(target),
  )
  writeFileSync(path, Buffer.concat([size, header, bytes.subarray(8 + length)]))
  await using model = await CausalLM.load(fixture('models', 'llama'))
  await t.notThrowsAsync(model.loadAdapter('padded', folder))
})

test('a config with what PEFT has by default left out is read by those defaults, and saved again', async (t) => {
  const { base, batch, truth } = openAdapter('llama')
  await using model = await CausalLM.load(base)
  const [r, lora_alpha] = [undefined, undefined]
  await t.throwsAsync(model.loadAdapter('eight', changed(t, 'llama', same, { r, lora_alpha })), {
    message: /has rank 4, and adapter_config.json gives .* rank 8/,
  })
  // Older versions of PEFT leave them to the model's type.
  await model.loadAdapter('older', changed(t, 'llama', same, { target_modules: null }))
  close(t, await model.logits(batch), truth, { absolute: 1e-4 }, 'logits')
  await t.notThrowsAsync(model.saveAdapter(join(newFolder(t), 'again')))
  // PEFT scales by any number.
  for (const scale of [0, -8]) {
    await model.loadAdapter(`${scale}`, changed(t, 'llama', same, { lora_alpha: scale }))
    if (scale !== 0) continue
    const none = await model.logits(batch)
    await model.setAdapter(null)
    close(t, none, await model.logits(batch), { absolute: 1e-5 }, 'a scale of 0')
  }
})

test('a field that PEFT 0.21 has not is refused unless it is empty', async (t) => {
  await using model = await CausalLM.load(fixture('models', 'llama'))
  for (const value of [true, 1, 'fast', [1], { a: 1 }])
    await t.throwsAsync(model.loadAdapter('new', changed(t, 'llama', same, { use_wild: value })), {
      code: 'ERR_UNSUPPORTED_MODEL',
      message:
        /use_wild .* is not supported: PEFT 0\.21 has no such field, .* remove it from adapter_config\.json if/,
    })
  const empty = { use_wild: false, wild_config: null, wild_list: [], wild: {} }
  const harmless = {
    auto_mapping: { unsloth_fixed: true },
    velora_config: { num_groups: 4 },
    peft_version: '9',
  }
  await t.notThrowsAsync(model.loadAdapter('empty', changed(t, 'llama', same, { ...empty, ...harmless })))
})

test('a folder without adapter_model.safetensors is refused with what it has instead', async (t) => {
  await using model = await CausalLM.load(fixture('models', 'llama'))
  const refused = (folder: string, message: RegExp) =>
    t.throwsAsync(model.loadAdapter('other', folder), { code: 'ERR_INVALID_FILE', message })
  const folder = changed(t, 'llama', same)
  renameSync(join(folder, FILE), join(folder, 'adapter_model.bin'))
  await refused(folder, /it has adapter_model\.bin, a pickle, .* save it again/)
  renameSync(join(folder, 'adapter_model.bin'), join(folder, 'adapter_model-00001-of-00002.safetensors'))
  await refused(folder, /adapter_model-00001-of-00002\.safetensors, and an adapter in several files/)
  rmSync(join(folder, 'adapter_model-00001-of-00002.safetensors'))
  await refused(folder, /has no adapter_model\.safetensors$/)
  const parent = newFolder(t)
  mkdirSync(join(parent, 'checkpoint'))
  cpSync(fixture('adapters', 'llama'), join(parent, 'policy'), { recursive: true })
  await refused(parent, /the folder has the adapters policy: choose one, such as .*policy$/)
})
