import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { AdamW, CausalLM, generate, type LoraOptions, RewardModel } from '../../lib/index.js'
import { close, distance, norm } from '../helpers/close.js'
import { type Expected, fixture, packed, readJson, readTensors } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'
import { weightsOf } from '../helpers/tiny-training.js'

type Json = Record<string, unknown>

const TERM = { kind: 'crossEntropy' } as const

function batchOf(family: string) {
  const { documents, labels } = readJson<Expected>(fixture('models', family, 'expected.json'))
  return { documents, batch: packed({ documents, labels }) }
}

/** Gives every trained parameter values that are not where they start. */
async function disturb(model: CausalLM | RewardModel, by = 0.2): Promise<void> {
  for (const { name, trainable } of await model.parameters()) {
    if (!trainable) continue
    const { values } = await model.getParameter(name)
    await model.setParameter(
      name,
      values.map((value, i) => value + by * Math.sin(7 * i + name.length)),
    )
  }
}

/** Adapters with every part that can be trained, on families with tied and untied heads. */
const ADAPTERS: [family: string, options: LoraOptions][] = [
  [
    'llama',
    { rank: 3, targetModules: ['embed_tokens', 'lm_head', 'q_proj'], dropout: 0.4, bias: 'lora_only' },
  ],
  ['llama', { rank: 3, targetModules: ['embed_tokens', 'v_proj'], ensureWeightTying: true, dropout: 0.4 }],
  ['llama', { rank: 2, modulesToSave: ['lm_head'], targetModules: ['up_proj'], ensureWeightTying: true }],
  ['qwen3', { rank: 3, targetModules: ['embed_tokens', 'lm_head', 'o_proj'], dora: true }],
  [
    'gemma3',
    { rank: 2, targetModules: ['embed_tokens', 'lm_head'], modulesToSave: ['layers.0.mlp.up_proj', 'norm'] },
  ],
  ['gpt2', { rank: 2, targetModules: ['wte', 'wpe', 'lm_head', 'c_attn'], bias: 'all', dropout: 0.3 }],
]
for (const [family, options] of ADAPTERS) {
  test(`${family} ${JSON.stringify(options)}: gradients are the slopes of the loss in float64`, async (t) => {
    const { batch } = batchOf(family)
    await using model = await CausalLM.load(fixture('models', family), { dtype: 'float64' })
    await model.addAdapter('new', { ...options, seed: 5 })
    await disturb(model)
    const given = { dropoutSeed: 11, temperature: 0.8 }
    const lossOf = async () => {
      await model.zeroGrad()
      return (await model.backward(batch, [TERM], given))[0]!.loss
    }
    await lossOf()
    const trained = (await model.parameters()).filter(({ trainable }) => trainable)
    const gradients = new Map<string, Float32Array>()
    for (const { name } of trained) gradients.set(name, (await model.getGradient(name)).values)
    for (const [name, gradient] of gradients) {
      const { values } = await model.getParameter(name)
      const largest = gradient.reduce(
        (at, value, i) => (Math.abs(value) > Math.abs(gradient[at]!) ? i : at),
        0,
      )
      for (const i of new Set([largest, gradient.length >> 1])) {
        const at = async (by: number) => {
          await model.setParameter(
            name,
            values.map((value, k) => (k === i ? value + by : value)),
          )
          return await lossOf()
        }
        const step = 2 ** -14
        const slope = ((await at(step)) - (await at(-step))) / (2 * step)
        await model.setParameter(name, values)
        // DoRA holds its norms constant in the gradient.
        if (options.dora && !name.includes('magnitude')) continue
        // The embedding of the pad token has no gradient as an input.
        if (gradient[i] === 0) continue
        close(t, gradient[i]!, slope, { absolute: 1e-6 + 2e-4 * norm(gradient) }, `${name}[${i}]`)
      }
    }
    t.true(trained.length > 4)
  })

  test(`${family} ${JSON.stringify(options)}: generation, saving, merging and the base under it agree`, async (t) => {
    const { documents, batch } = batchOf(family)
    const folder = newFolder(t)
    await using model = await CausalLM.load(fixture('models', family))
    const base = await model.logits(batch)
    const before = await weightsOf(model)
    await model.addAdapter('new', { ...options, seed: 5 })
    await disturb(model)
    const logits = await model.logits(batch)
    t.true(distance(logits, base) > 0.1)

    const prompts = documents.map((ids) => Int32Array.from(ids))
    const answers = await generate(model, prompts, {
      maxNewTokens: 5,
      stopIds: [],
      temperature: 1,
      seed: 3,
      logProbs: true,
    })
    const rows = answers.map(({ tokenIds }, i) => ({ promptIds: prompts[i]!, completionIds: tokenIds }))
    for (const [i, { perToken }] of (await model.logProbs(rows)).entries())
      close(t, perToken, answers[i]!.logProbs!, { absolute: 1e-4 }, 'the decoder samples from what it trains')

    await using reference = await model.view()
    t.deepEqual(await reference.logits(batch), base)
    await reference.dispose()
    const optimizer = new AdamW(model, { learningRate: 0.01 })
    await model.backward(batch, TERM)
    await optimizer.step()
    await optimizer.dispose()
    for (const [name, values] of await weightsOf(model))
      if (before.has(name)) t.deepEqual(values, before.get(name)!, name)
    const trained = await model.logits(batch)
    t.true(distance(trained, logits) > 0.01)

    await model.saveAdapter(join(folder, 'adapter'))
    await model.copyAdapter('new', 'copy')
    await model.setAdapter('copy')
    t.deepEqual(await model.logits(batch), trained)
    await using again = await CausalLM.load(fixture('models', family))
    await again.loadAdapter('again', join(folder, 'adapter'))
    t.deepEqual(await again.logits(batch), trained)
    await again.saveAdapter(join(folder, 'second'))
    const [one, two] = ['adapter', 'second'].map((name) =>
      readTensors(join(folder, name, 'adapter_model.safetensors')),
    )
    t.deepEqual(two, one)
    await again.mergeAdapter()
    close(t, await again.logits(batch), trained, { absolute: 2e-4 }, 'merged')
    await again.save(join(folder, 'merged'))
    await using merged = await CausalLM.load(join(folder, 'merged'))
    close(t, await merged.logits(batch), trained, { absolute: 2e-4 }, 'merged and saved')
    await using clone = await again.clone()
    close(t, await clone.logits(batch), trained, { absolute: 2e-4 }, 'a clone of the merged model')
  })
}

test('options choose layers, ranks and scales as PEFT does, and are saved in its words', async (t) => {
  const folder = join(newFolder(t), 'adapter')
  await using model = await CausalLM.load(fixture('models/llama'))
  await model.addAdapter('new', {
    rank: 4,
    alpha: 6,
    targetModules: ['q_proj', 'v_proj', 'model.layers.0.mlp.up_proj'],
    layers: [1],
    rankPattern: { v_proj: 2 },
    alphaPattern: { 'layers.1.self_attn.q_proj': 5 },
    bias: 'lora_only',
    modulesToSave: ['embed_tokens'],
  })
  await model.saveAdapter(folder)
  const config = readJson<Json>(join(folder, 'adapter_config.json'))
  t.like(config, {
    target_modules: ['q_proj', 'v_proj', 'model.layers.0.mlp.up_proj'],
    layers_to_transform: [1],
    rank_pattern: { v_proj: 2 },
    alpha_pattern: { 'layers.1.self_attn.q_proj': 5 },
    bias: 'lora_only',
    modules_to_save: ['embed_tokens'],
  })
  const tensors = readTensors(join(folder, 'adapter_model.safetensors'))
  const shapes = Object.fromEntries([...tensors].map(([name, { shape }]) => [name.slice(17), shape.join()]))
  t.deepEqual(shapes, {
    'model.embed_tokens.weight': '67,24',
    'model.layers.0.mlp.up_proj.base_layer.bias': '40',
    'model.layers.0.mlp.up_proj.lora_A.weight': '4,24',
    'model.layers.0.mlp.up_proj.lora_B.weight': '40,4',
    'model.layers.1.self_attn.q_proj.base_layer.bias': '32',
    'model.layers.1.self_attn.q_proj.lora_A.weight': '4,24',
    'model.layers.1.self_attn.q_proj.lora_B.weight': '32,4',
    'model.layers.1.self_attn.v_proj.base_layer.bias': '16',
    'model.layers.1.self_attn.v_proj.lora_A.weight': '2,24',
    'model.layers.1.self_attn.v_proj.lora_B.weight': '16,2',
  })
  const { modules } = model.role.adapterConfig!
  t.deepEqual(
    modules.map(({ rank, scale }) => [rank, scale]),
    [
      [4, 1.5],
      [4, 1.25],
      [2, 3],
    ],
  )
})

test('a reward model trains the embedding and has no output projection to adapt', async (t) => {
  const folder = newFolder(t)
  const { documents } = batchOf('llama')
  const texts = documents.map((ids) => Int32Array.from(ids))
  await using trunk = await CausalLM.load(fixture('models/llama'))
  await using model = await RewardModel.fromCausalLM(trunk, { seed: 1 })
  const code = 'ERR_INVALID_ARGUMENT'
  await t.throwsAsync(model.addAdapter('new', { targetModules: ['lm_head'] }), {
    code,
    message: /a reward model has no lm_head/,
  })
  await t.throwsAsync(model.addAdapter('new', { modulesToSave: ['lm_head'] }), {
    code,
    message: /a reward model has no lm_head/,
  })
  await model.addAdapter('new', { rank: 2, targetModules: ['embed_tokens'], modulesToSave: ['norm'] })
  await disturb(model)
  const scores = await model.scores(texts)
  await model.saveAdapter(join(folder, 'adapter'))
  t.deepEqual(readJson<Json>(join(folder, 'adapter/adapter_config.json')).modules_to_save, ['norm', 'score'])
  await trunk.dispose()
  await using again = await CausalLM.load(fixture('models/llama'))
  await using other = await RewardModel.fromCausalLM(again, { seed: null })
  await again.dispose()
  await other.loadAdapter('again', join(folder, 'adapter'))
  t.deepEqual(await other.scores(texts), scores)
  await other.mergeAdapter()
  close(t, await other.scores(texts), scores, { absolute: 1e-4 })
  // Nothing reads a head, so the embedding stays the only one of its kind.
  t.is(other.config.tie_word_embeddings, true)
})

test('embeddings that an adapter brings with it and does not train are used, frozen, and saved again', async (t) => {
  const folder = newFolder(t)
  const { batch } = batchOf('llama')
  const path = fixture('models/llama')
  await using plain = await CausalLM.load(path)
  const base = await plain.logits(batch)
  for (const saved of [false, true]) {
    const adapter = join(folder, `adapter-${saved}`)
    await using model = await CausalLM.load(path)
    const name = 'model.embed_tokens.weight'
    const { values } = await model.getParameter(name)
    if (!saved)
      await model.setParameter(
        name,
        values.map((value, i) => value + 0.2 * Math.sin(i)),
      )
    const options: LoraOptions = saved
      ? { modulesToSave: ['embed_tokens'] }
      : { targetModules: ['embed_tokens'] }
    await model.addAdapter('new', { rank: 2, ...options })
    await disturb(model)
    const expected = await model.logits(batch)
    await model.saveAdapter(adapter)
    // Without its name in modules_to_save the weight stands for the base's, and so for the tied head too.
    if (saved) {
      const config = join(adapter, 'adapter_config.json')
      writeFileSync(config, JSON.stringify({ ...readJson<Json>(config), modules_to_save: null }))
    }
    await plain.loadAdapter(`${saved}`, adapter)
    const logits = await plain.logits(batch)
    if (saved) t.true(distance(logits, expected) > 0.1)
    else t.deepEqual(logits, expected)
    const frozen = (await plain.parameters()).filter(({ name }) =>
      /base_layer|embed_tokens.weight/.test(name),
    )
    t.true(frozen.length === 2 && frozen.every(({ trainable }) => !trainable))
    await plain.saveAdapter(join(folder, `again-${saved}`))
    const files = [adapter, join(folder, `again-${saved}`)].map((at) =>
      readTensors(join(at, 'adapter_model.safetensors')),
    )
    t.deepEqual(new Map([...files[1]!].sort()), new Map([...files[0]!].sort()))
    await using merged = await CausalLM.load(path)
    await merged.loadAdapter('once', adapter)
    await merged.mergeAdapter()
    close(t, await merged.logits(batch), logits, { absolute: 2e-4 }, 'merged')
    t.is(merged.config.tie_word_embeddings, saved)
    await plain.setAdapter(null)
    t.deepEqual(await plain.logits(batch), base)
  }
})
