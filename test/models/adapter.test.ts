import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { AdamW, CausalLM, type LoraOptions } from '../../lib/index.js'
import { adapted, LINEAR, openAdapter } from '../helpers/adapters.js'
import { close, distance, norm } from '../helpers/close.js'
import { type Expected, fixture, packed, readJson } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'

type Json = Record<string, unknown>

const TERM = { kind: 'crossEntropy' } as const
const A_NAME = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'

/** A copy of a PEFT folder with another adapter_config.json. */
function changed(t: ExecutionContext, name: string, fields: Json): string {
  const folder = join(newFolder(t), 'adapter')
  cpSync(fixture('adapters', name), folder, { recursive: true })
  const path = join(folder, 'adapter_config.json')
  writeFileSync(path, JSON.stringify({ ...readJson<Json>(path), ...fields }))
  return folder
}

test('off, the base is bit for bit what it was; on again, so is the adapter', async (t) => {
  const { base, batch, folder } = openAdapter('llama')
  await using model = await CausalLM.load(base)
  const off = await model.logits(batch)
  await model.loadAdapter('peft', folder)
  const on = await model.logits(batch)
  t.notDeepEqual(on, off)
  await using reference = await model.view()
  t.is(reference.adapter, null)
  t.deepEqual(await reference.logits(batch), off)
  await model.setAdapter(null)
  t.deepEqual(await model.logits(batch), off)
  await model.setAdapter('peft')
  t.deepEqual(await model.logits(batch), on)
  await t.throwsAsync(model.setAdapter('other'), { code: 'ERR_INVALID_ARGUMENT', message: /it has peft/ })
})

test('several adapters share a base independently', async (t) => {
  const { base, batch, folder, truth } = openAdapter('llama')
  await using model = await CausalLM.load(base)
  await model.loadAdapter('peft', folder)
  await model.loadAdapter('subset', openAdapter('llama-subset').folder)
  t.deepEqual(model.adapters, ['peft', 'subset'])
  close(t, await model.logits(batch), openAdapter('llama-subset').truth, { absolute: 1e-4 }, 'subset')
  const optimizer = new AdamW(model, { learningRate: 0.1 })
  await model.backward(batch, TERM)
  await optimizer.step()
  await optimizer.dispose()
  // All weights of a base with adapters are frozen: there is nothing to step, and nothing to dispose of.
  await model.setAdapter(null)
  const nothing = new AdamW(model, { learningRate: 0.1 })
  await t.throwsAsync(nothing.step(), { message: /no trainable parameter/ })
  await t.notThrowsAsync(nothing.dispose())
  await model.setAdapter('peft')
  close(t, await model.logits(batch), truth, { absolute: 1e-4 }, 'the other one')
  const merge = (message: RegExp) =>
    t.throwsAsync(model.mergeAdapter(), { code: 'ERR_INVALID_ARGUMENT', message })
  await merge(/which its other adapters \(subset\) would no longer fit/)
  const view = await model.view()
  await merge(/which another model shares: dispose that model first/)
  await view.dispose()
  await t.throwsAsync(model.addAdapter('peft'), { code: 'ERR_INVALID_ARGUMENT', message: /already/ })
})

test('a copied adapter stays where it is while the first is trained', async (t) => {
  const { batch, truth } = openAdapter('qwen2')
  await using model = await adapted('qwen2')
  await model.copyAdapter('peft', 'start')
  await using start = await model.view({ adapter: 'start' })
  const optimizer = new AdamW(model, { learningRate: 0.1 })
  await model.backward(batch, TERM)
  await optimizer.step()
  await optimizer.dispose()
  close(t, await start.logits(batch), truth, { absolute: 1e-4 }, 'the copy')
  t.true(distance(await model.logits(batch), truth) > 1)
})

const NEW: [family: string, options: LoraOptions, modules: string[]][] = [
  ['gpt2', { targetModules: ['wte', 'wpe', 'lm_head'] }, ['lm_head', 'wpe', 'wte']],
  ['llama', { targetModules: ['embed_tokens', 'lm_head', 'q_proj'] }, ['embed_tokens', 'lm_head', 'q_proj']],
  [
    'llama',
    { targetModules: ['embed_tokens', 'q_proj'], ensureWeightTying: true },
    ['embed_tokens', 'q_proj'],
  ],
  ['qwen3', { targetModules: ['embed_tokens', 'lm_head'], dora: true }, ['embed_tokens', 'lm_head']],
  ['gemma3', { modulesToSave: ['embed_tokens', 'norm'], bias: 'all', layers: [1] }, LINEAR],
  ['gpt2', {}, ['c_attn', 'c_fc', 'c_proj']],
  ['gpt2', { dora: true }, ['c_attn', 'c_fc', 'c_proj']],
  ['llama', {}, LINEAR],
  ['llama', { dora: true, rsLora: true }, LINEAR],
  ['mistral', { targetModules: ['v_proj', 'up_proj'] }, ['up_proj', 'v_proj']],
  ['qwen3', { rank: 2, alpha: 3 }, LINEAR],
  ['gemma3', { rank: 4, alpha: 8 }, LINEAR],
]
for (const [family, options, modules] of NEW) {
  test(`${family} ${JSON.stringify(options)}: a new adapter changes nothing, and starts as PEFT's do`, async (t) => {
    const { documents, labels } = readJson<Expected>(fixture('models', family, 'expected.json'))
    const batch = packed({ documents, labels })
    await using model = await CausalLM.load(fixture('models', family))
    const before = await model.logits(batch)
    await model.addAdapter('new', { ...options, seed: 3 })
    if (options.dora) close(t, await model.logits(batch), before, { absolute: 1e-5 })
    else t.deepEqual(await model.logits(batch), before)
    const seen = new Set<string>()
    for (const { name, shape } of await model.parameters()) {
      const [, module, part] = /([a-z_]+)\.(lora_[A-Za-z_]+)(\.weight)?$/.exec(name) ?? []
      if (module === undefined) continue
      seen.add(module)
      const { values } = await model.getParameter(name)
      // PEFT stores the updates of an embedding the other way round.
      if (part === 'lora_embedding_B') {
        t.true(Math.abs(norm(values) / Math.sqrt(values.length) - 1) < 0.2, `${name}: standard normal`)
      }
      if (part === 'lora_B' || part === 'lora_embedding_A')
        t.true(
          values.every((value) => value === 0),
          name,
        )
      if (part !== 'lora_A') continue
      // kaiming_uniform with a = sqrt 5: uniform within 1 / sqrt(inputs), of standard deviation bound / sqrt 3.
      const bound = 1 / Math.sqrt(shape[1]!)
      t.is(shape[0], options.rank ?? 16)
      t.true(
        values.every((value) => Math.abs(value) <= bound),
        name,
      )
      const deviation = norm(values) / Math.sqrt(values.length)
      t.true(Math.abs(deviation / bound - 1 / Math.sqrt(3)) < 0.15, `${name}: ${deviation / bound}`)
    }
    t.deepEqual([...seen].sort(), [...modules].sort())
    const saved = join(newFolder(t), 'adapter')
    await model.saveAdapter(saved)
    const { r, lora_alpha } = readJson<Json>(join(saved, 'adapter_config.json'))
    t.deepEqual([r, lora_alpha], [options.rank ?? 16, options.alpha ?? 32])
  })
}

test('dropout is drawn from the seed; its gradient is that of its loss, checkpointed or not', async (t) => {
  const { base, batch, documents } = openAdapter('llama')
  await using model = await CausalLM.load(base, { dtype: 'float64' })
  await model.addAdapter('dropped', { rank: 4, dropout: 0.5, seed: 1 })
  for (const { name, trainable } of await model.parameters()) {
    if (!trainable || !name.includes('lora_B')) continue
    const { values } = await model.getParameter(name)
    await model.setParameter(
      name,
      values.map((_, i) => 0.3 * Math.sin(i + 1)),
    )
  }
  const lossOf = async (dropoutSeed?: number, checkpointing = false) => {
    await model.zeroGrad()
    return (
      await model.backward(batch, TERM, { checkpointing, ...(dropoutSeed !== undefined && { dropoutSeed }) })
    ).loss
  }
  const plain = await lossOf()
  t.is(plain, (await model.evaluate(batch, TERM)).loss)
  const [one, other] = [await lossOf(7), await lossOf(8)]
  t.true(Math.abs(one - plain) > 1e-3 && Math.abs(one - other) > 1e-3)
  t.is(await lossOf(7), one)
  const gradient = (await model.getGradient(A_NAME)).values
  t.is(await lossOf(7, true), one)
  t.deepEqual((await model.getGradient(A_NAME)).values, gradient)
  const { values } = await model.getParameter(A_NAME)
  for (const i of [0, 17, 95]) {
    const at = async (by: number) => {
      await model.setParameter(
        A_NAME,
        values.map((value, k) => (k === i ? value + by : value)),
      )
      return await lossOf(7)
    }
    const step = 2 ** -10
    const slope = ((await at(step)) - (await at(-step))) / (2 * step)
    close(t, gradient[i]!, slope, { absolute: 1e-6 + 1e-4 * norm(gradient) }, `slope ${i}`)
  }
  t.is(documents.length, 3)
})

const REFUSED: [fields: Json, reason: RegExp][] = [
  [{ peft_type: 'IA3' }, /LORA is/],
  [{ layer_replication: [[0, 2]] }, /repeats layers/],
  [{ trainable_token_indices: [1, 3] }, /not one token after another/],
  [{ lora_bias: true }, /B matrices have a bias/],
  [
    { init_lora_weights: 'pissa_niter_4' },
    /a random approximation .* which no file holds: save it with path_initial/,
  ],
  [{ init_lora_weights: 'corda' }, /chosen by data/],
  [{ init_lora_weights: 'lora_ga' }, /chosen by gradients/],
  [{ init_lora_weights: 'loftq' }, /quantized weights/],
  [{ init_lora_weights: 'mica' }, /frozen in training/],
  [{ init_lora_weights: 'new' }, /unknown/],
]

test('what the adapter of a folder would need and we lack is refused by name and with the reason', async (t) => {
  const { base } = openAdapter('llama')
  await using model = await CausalLM.load(base)
  for (const [fields, reason] of REFUSED) {
    const [field] = Object.keys(fields)
    const { message } = (await t.throwsAsync(
      model.loadAdapter('foreign', changed(t, 'llama', fields)),
      { code: 'ERR_UNSUPPORTED_MODEL', message: new RegExp(field!) },
      field,
    ))!
    t.regex(message, reason)
  }
  for (const neutral of [
    { init_lora_weights: 'gaussian' },
    { init_lora_weights: false },
    { alpha_pattern: {} },
    { modules_to_save: ['classifier'] },
    // Matched in linear time.
    { alpha_pattern: { '(((.*)*)*)*!': 1 } },
    { alpha_pattern: { '(?P<which>q|v)_proj': 16 } },
  ])
    await t.notThrowsAsync(model.loadAdapter(JSON.stringify(neutral), changed(t, 'llama', neutral)))
  await model.setAdapter(null)
  await t.throwsAsync(model.saveAdapter(join(newFolder(t), 'none')), { code: 'ERR_INVALID_ARGUMENT' })
})

const DAMAGED: [name: string, fields: Json, reason: RegExp][] = [
  ['llama', { r: 8 }, /has rank 4, and adapter_config.json gives .* rank 8/],
  ['llama', { rank_pattern: { v_proj: 8 } }, /v_proj.lora_A.weight has rank 4, and .*v_proj rank 8/],
  ['llama', { rank_pattern: { v_proj: '8' } }, /rank_pattern must be an object of numbers/],
  ['llama', { modules_to_save: 'lm_head' }, /modules_to_save must be a list of names/],
  ['llama', { bias: 'some' }, /bias must be none, all or lora_only/],
  ['llama', { alpha_pattern: { '(': 1 } }, /alpha_pattern .* cannot be matched: Invalid regular expression/],
  ['llama', { use_dora: true }, /lora_magnitude_vector/],
  ['qwen3-embeddings', {}, /belongs to another base/],
]
test('a config that its file contradicts is refused with the reason', async (t) => {
  await using model = await CausalLM.load(openAdapter('llama').base)
  for (const [name, fields, message] of DAMAGED)
    await t.throwsAsync(
      model.loadAdapter('other', changed(t, name, fields)),
      { code: 'ERR_INVALID_FILE', message },
      JSON.stringify(fields),
    )
  t.deepEqual(model.adapters, [])
})

test('an adapter of another base, a damaged one and a folder without one are refused, and nothing is left', async (t) => {
  const { base, batch } = openAdapter('llama')
  await using model = await CausalLM.load(base)
  const before = await model.logits(batch)
  for (const other of ['gpt2', 'qwen2', 'qwen3']) {
    await t.throwsAsync(
      model.loadAdapter('other', fixture('adapters', other)),
      { code: 'ERR_INVALID_FILE' },
      other,
    )
  }
  await t.throwsAsync(model.loadAdapter('other', fixture('reward', 'llama-lora')), {
    code: 'ERR_INVALID_FILE',
    message: /RewardModel\.load/,
  })
  await t.throwsAsync(model.loadAdapter('other', base), {
    code: 'ERR_INVALID_FILE',
    message: /adapter_config\.json/,
  })
  t.deepEqual(model.adapters, [])
  t.is(model.adapter, null)
  t.deepEqual(await model.logits(batch), before)
  t.true(
    (await model.parameters()).every(({ trainable }) => trainable),
    'the base is not frozen',
  )
})

test('merged, a model can be trained whole again, and the other way round while an adapter is there', async (t) => {
  const { batch } = openAdapter('llama')
  await using model = await adapted('llama')
  const trainable = async () => (await model.parameters()).filter((parameter) => parameter.trainable).length
  const ofAdapter = await trainable()
  await model.mergeAdapter()
  const whole = await trainable()
  t.is(whole, (await model.parameters()).length)
  t.not(whole, ofAdapter)
  const before = (await model.getParameter('model.norm.weight')).values
  const optimizer = new AdamW(model, { learningRate: 1e-2 })
  await model.backward(batch, TERM)
  await optimizer.step()
  await optimizer.dispose()
  t.notDeepEqual((await model.getParameter('model.norm.weight')).values, before)
  await model.addAdapter('again')
  t.true(
    (await model.parameters()).every((parameter) => parameter.trainable === /lora_/.test(parameter.name)),
  )
})

test('invalid options of an adapter are refused', async (t) => {
  await using model = await CausalLM.load(fixture('models/gpt2'))
  const wrong: [LoraOptions, RegExp][] = [
    [{ rank: 0 }, /rank/],
    [{ alpha: 0 }, /alpha/],
    [{ dropout: 1 }, /dropout/],
    [{ targetModules: ['q_proj'] }, /q_proj.*c_attn/],
    [{ targetModules: ['norm'] }, /no layer norm/],
    [{ layers: [2] }, /layers are 0 to 1/],
    [{ rankPattern: { q_proj: 2 } }, /no adapted module has a name that ends with q_proj/],
    [{ rankPattern: { c_attn: 1.5 } }, /whole numbers/],
    [{ modulesToSave: ['embed_tokens'] }, /no module embed_tokens/],
    [{ targetModules: ['c_attn'], modulesToSave: ['c_attn'] }, /no module is left/],
    [{ ensureWeightTying: true }, /neither transformer.wte nor lm_head/],
    [{ ensureWeightTying: true, targetModules: ['wte'], dora: true }, /dora/],
    [{ dora: true, dropout: 0.1 }, /dropout/],
  ]
  for (const [options, message] of wrong)
    await t.throwsAsync(model.addAdapter('new', options), { code: 'ERR_INVALID_ARGUMENT', message })
  t.deepEqual(model.adapters, [])
})
