// What a block offers beyond the families that are here: each option against transformers or finite differences.
import test, { type ExecutionContext } from 'ava'
import type {
  Core,
  DecoderSpec,
  LayerSpec,
  RoleHandle,
  TermOver,
  WeightMapEntry,
} from '../../lib/addon/addon.js'
import { loadCore } from '../../lib/addon/load.js'
import { close, distance } from '../helpers/close.js'
import { type Expected, fixture, packed, readJson, readTensors } from '../helpers/fixtures.js'

const SAMPLING = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0 }

const layer: LayerSpec = {
  heads: 4,
  kvHeads: 2,
  headDim: 6,
  qkvBias: false,
  outBias: false,
  qkNorm: false,
  window: null,
  rope: { kind: 'default', theta: 10000 },
  mlp: { kind: 'gated', activation: 'silu', intermediateSize: 40, bias: false },
}
const spec: DecoderSpec = {
  vocabSize: 67,
  hiddenSize: 24,
  learnedPositions: null,
  norm: { kind: 'rms', eps: 1e-6 },
  tied: true,
  layers: [layer, layer],
}
const of = (options: Partial<LayerSpec>, more: Partial<DecoderSpec> = {}): DecoderSpec => ({
  ...spec,
  ...more,
  layers: [
    { ...layer, ...options },
    { ...layer, ...options },
  ],
})

/** The tensors of glm4's files: gate and up are one, and there is a norm on each side of attention and MLP. */
function glm4Weights(spec: DecoderSpec): WeightMapEntry[] {
  const entry = (name: string, parameter: string, rows?: [number, number]): WeightMapEntry => ({
    name,
    parameter,
    ...(rows && { rows }),
  })
  const layers = spec.layers.flatMap(({ heads, kvHeads, headDim, preNorm }, i) => {
    const [at, to] = [`model.layers.${i}`, `layers.${i}`]
    const [q, kv] = [heads * headDim, kvHeads * headDim]
    return [
      ...(['weight', 'bias'] as const).flatMap((part) => [
        entry(`${at}.self_attn.q_proj.${part}`, `${to}.qkv.${part}`, [0, q]),
        entry(`${at}.self_attn.k_proj.${part}`, `${to}.qkv.${part}`, [q, kv]),
        entry(`${at}.self_attn.v_proj.${part}`, `${to}.qkv.${part}`, [q + kv, kv]),
      ]),
      entry(`${at}.self_attn.o_proj.weight`, `${to}.out.weight`),
      entry(`${at}.mlp.gate_up_proj.weight`, `${to}.up.weight`),
      entry(`${at}.mlp.down_proj.weight`, `${to}.down.weight`),
      entry(`${at}.post_self_attn_layernorm.weight`, `${to}.attentionPostNorm.weight`),
      entry(`${at}.post_mlp_layernorm.weight`, `${to}.mlpPostNorm.weight`),
      ...(preNorm === false
        ? []
        : [
            entry(`${at}.input_layernorm.weight`, `${to}.attentionNorm.weight`),
            entry(`${at}.post_attention_layernorm.weight`, `${to}.mlpNorm.weight`),
          ]),
    ]
  })
  return [
    entry('model.embed_tokens.weight', 'embed.weight'),
    ...layers,
    entry('model.norm.weight', 'norm.weight'),
    entry('lm_head.weight', 'head.weight'),
  ]
}

function graniteWeights(spec: DecoderSpec): WeightMapEntry[] {
  const { heads, kvHeads, headDim, mlp } = spec.layers[0]!
  const [q, kv, inner] = [heads * headDim, kvHeads * headDim, mlp.intermediateSize]
  const layers = spec.layers.flatMap((_, i) => {
    const [at, to] = [`model.layers.${i}`, `layers.${i}`]
    const entries: [string, string, [number, number]?][] = [
      ['input_layernorm', 'attentionNorm'],
      ['post_attention_layernorm', 'mlpNorm'],
      ['self_attn.q_proj', 'qkv', [0, q]],
      ['self_attn.k_proj', 'qkv', [q, kv]],
      ['self_attn.v_proj', 'qkv', [q + kv, kv]],
      ['self_attn.o_proj', 'out'],
      ['mlp.gate_proj', 'up', [0, inner]],
      ['mlp.up_proj', 'up', [inner, inner]],
      ['mlp.down_proj', 'down'],
    ]
    return entries.map(([name, parameter, rows]) => ({
      name: `${at}.${name}.weight`,
      parameter: `${to}.${parameter}.weight`,
      ...(rows && { rows }),
    }))
  })
  return [
    { name: 'model.embed_tokens.weight', parameter: 'embed.weight' },
    ...layers,
    { name: 'model.norm.weight', parameter: 'norm.weight' },
  ]
}

const glm4: Partial<LayerSpec> = {
  headDim: 12,
  qkvBias: true,
  postNorm: true,
  rope: { kind: 'default', theta: 10000, rotaryDim: 6, interleaved: true },
}
const glm4Decoder = { tied: false, norm: { kind: 'rms', eps: 1.5625e-7 } } as const
const OF_TRANSFORMERS: [name: string, spec: DecoderSpec, weights: (spec: DecoderSpec) => WeightMapEntry[]][] =
  [
    [
      'granite',
      of(
        { attentionScale: 0.3, residualMultiplier: 0.7 },
        { embeddingMultiplier: 3, logitMultiplier: 1 / 0.6 },
      ),
      graniteWeights,
    ],
    ['glm4', of(glm4, glm4Decoder), glm4Weights],
    ['post-norms', of({ ...glm4, preNorm: false }, glm4Decoder), glm4Weights],
  ]

async function made(core: Core, spec: DecoderSpec, dtype: 'float32' | 'float64') {
  const base = await core.createBase(spec, { device: 'cpu', dtype })
  const role = await core.createRole(base, {})
  return { base, role, dispose: () => Promise.all([role, base].map((handle) => core.dispose(handle))) }
}

async function greedy(core: Core, role: RoleHandle, prompts: number[][], maxNewTokens: number) {
  const options = {
    ...SAMPLING,
    maxNewTokens: new Int32Array(prompts.length).fill(maxNewTokens),
    stopIds: new Int32Array(),
  }
  const given = prompts.map((ids) => Int32Array.from(ids))
  const session = await core.createSession(role, given, options)
  const { rows, ids, logProbs } = await core.advance(session, maxNewTokens)
  await core.dispose(session)
  return prompts.map((_, row) => ({
    ids: [...ids].filter((_, i) => rows[i] === row),
    logProbs: [...logProbs].filter((_, i) => rows[i] === row),
  }))
}

for (const [name, spec, weightsOf] of OF_TRANSFORMERS) {
  test(`${name}: logits, loss, gradients and greedy responses are those of transformers`, async (t) => {
    const core = await loadCore()
    const folder = fixture('blocks', name)
    const expected = readJson<Expected>(`${folder}/expected.json`)
    const tensors = readTensors(`${folder}/expected.safetensors`)
    const { role, dispose } = await made(core, spec, 'float32')
    const entries = weightsOf(spec)
    await core.loadTensors(role, [{ path: `${folder}/model.safetensors`, entries }])
    t.deepEqual(entries.map(({ name }) => name).sort(), Object.keys(expected.gradients).sort())

    const batch = packed(expected)
    const truth = expected.documents.flatMap((_, i) => [...tensors.get(`logits.${i}`)!.values])
    close(t, await core.logits(role, batch), truth, { absolute: 1e-4 }, 'logits')
    const [sums] = await core.backward(role, batch, [{ kind: 'crossEntropy' }], {
      normalizer: expected.count,
    })
    close(t, sums!.loss / expected.count, expected.loss, { absolute: 1e-5 }, 'loss')
    for (const entry of entries) {
      const { values } = await core.getTensor(role, entry, 'gradient')
      const off = distance(values, tensors.get(`grad.${entry.name}`)!.values)
      const [size, own] = expected.gradients[entry.name]!
      t.true(
        off <= 3 * own + 1e-7 * size,
        `${entry.name} is off by ${off}; float32 itself by ${own} of ${size}`,
      )
    }
    const answers = await greedy(core, role, expected.prompts, 14)
    t.deepEqual(
      answers.map(({ ids }) => ids),
      expected.continuations,
    )
    await dispose()
  })
}

const rope = { kind: 'default', theta: 10000 } as const
const OPTIONS: Record<string, DecoderSpec> = {
  'norms before and after': of({ postNorm: true }),
  'norms after': of({ preNorm: false, postNorm: true }),
  'no norm in a block': of({ preNorm: false }),
  'norms by 1 + w': of({ qkNorm: true, postNorm: true }, { norm: { kind: 'rms', eps: 1e-6, offset: true } }),
  'layer norms before and after': of({ postNorm: true }, { norm: { kind: 'layer', eps: 1e-6 } }),
  'an attention scale': of({ attentionScale: 0.7 }),
  'an attention scale and a window': of({ attentionScale: 0.7, window: 3 }),
  'a residual multiplier': of({ residualMultiplier: 0.6 }),
  'a residual multiplier after norms': of({ residualMultiplier: 0.6, postNorm: true }),
  'an embedding multiplier': of({}, { embeddingMultiplier: 4.9 }),
  'an embedding multiplier and learned positions': of(
    { rope: null },
    { embeddingMultiplier: 4.9, learnedPositions: 16 },
  ),
  'a logit multiplier': of({}, { logitMultiplier: 0.4 }),
  'a soft-cap of the logits': of({}, { logitMultiplier: 3, logitSoftCap: 2 }),
  'rotation of a part': of({ rope: { ...rope, rotaryDim: 4 } }),
  'rotation interleaved': of({ rope: { ...rope, interleaved: true } }),
  'rotation of a part, interleaved': of({ rope: { ...rope, rotaryDim: 2, interleaved: true } }),
}

const DOCUMENTS = [
  [3, 14, 15, 9, 26, 5, 35, 8],
  [27, 18, 28, 18, 2],
]
const BATCH = packed({ documents: DOCUMENTS, labels: DOCUMENTS })

/** Every parameter, biases and norms too, somewhere that nothing special holds. */
async function scatter(core: Core, role: RoleHandle, seed: number) {
  const parameters = await core.parameters(role)
  for (const [p, { parameter, shape }] of parameters.entries()) {
    const size = shape.reduce((product, n) => product * n, 1)
    const [center, spread] = shape.length === 1 ? [0.8, 0.2] : [0, 0.3]
    const values = Float32Array.from(
      { length: size },
      (_, i) => center + spread * Math.sin((i + 1) * (p + 2.3) * 1.7 + seed + i * i * 0.01),
    )
    await core.setTensor(role, { name: parameter, parameter }, values)
  }
  return parameters
}

/** Change of the loss along a direction, against the gradient's. */
async function checkGradient(
  t: ExecutionContext,
  spec: DecoderSpec,
  terms: TermOver<RoleHandle>[],
  temperature: number,
) {
  const core = await loadCore()
  const { role, dispose } = await made(core, spec, 'float64')
  const parameters = await scatter(core, role, 1)
  const lossOf = async () => {
    const sums = await core.evaluate(role, BATCH, terms, { temperature })
    return sums.reduce((total, { loss }, i) => total + (terms[i]!.coefficient ?? 1) * loss, 0)
  }
  await core.backward(role, BATCH, terms, { normalizer: 1, temperature })
  for (const [p, { parameter }] of parameters.entries()) {
    const entry = { name: parameter, parameter }
    const { values } = await core.getTensor(role, entry, 'value')
    const gradient = (await core.getTensor(role, entry, 'gradient')).values
    const moved = (by: number) => values.map((value, i) => value + by * Math.cos(i * 1.3 + p))
    const [low, high] = [moved(-(2 ** -16)), moved(2 ** -16)]
    await core.setTensor(role, entry, low)
    const before = await lossOf()
    await core.setTensor(role, entry, high)
    const after = await lossOf()
    await core.setTensor(role, entry, values)
    let change = 0
    let size = 0
    for (const [i, slope] of gradient.entries()) {
      change += slope * (high[i]! - low[i]!)
      size += Math.abs(slope * (high[i]! - low[i]!))
    }
    t.true(size > 1e-8, `${parameter} has a gradient`)
    close(t, after - before, change, { absolute: 1e-6 * size }, parameter)
  }
  const whole = await core.getTensor(role, { name: 'e', parameter: 'embed.weight' }, 'gradient')
  await core.zeroGrad(role)
  await core.backward(role, BATCH, terms, { normalizer: 1, temperature, checkpointing: true })
  const again = await core.getTensor(role, { name: 'e', parameter: 'embed.weight' }, 'gradient')
  t.deepEqual(again.values, whole.values, 'with checkpointing')
  await dispose()
}

for (const [name, spec] of Object.entries(OPTIONS)) {
  test(`${name}: the gradient is the slope of the loss`, async (t) => {
    await checkGradient(t, spec, [{ kind: 'crossEntropy' }], 1)
  })

  test(`${name}: what is decoded token by token has the log-probabilities of one forward`, async (t) => {
    const core = await loadCore()
    const { role, dispose } = await made(core, spec, 'float32')
    await scatter(core, role, 2)
    const answers = await greedy(core, role, DOCUMENTS, 6)
    for (const [i, { ids, logProbs }] of answers.entries()) {
      const text = [...DOCUMENTS[i]!, ...ids]
      const whole = await core.logProbs(role, packed({ documents: [text], labels: [text] }), {})
      close(t, logProbs, whole.logProbs.slice(-ids.length), { absolute: 1e-4 }, name)
    }
    await dispose()
  })
}

const CAPPED = OPTIONS['a soft-cap of the logits']!

test('a soft cap bounds the logits; a temperature divides what it gives', async (t) => {
  const core = await loadCore()
  const { role, dispose } = await made(core, CAPPED, 'float32')
  await scatter(core, role, 3)
  const logits = await core.logits(role, BATCH)
  t.true(logits.every((logit) => Math.abs(logit) <= CAPPED.logitSoftCap!))
  t.true(logits.some((logit) => Math.abs(logit) > 0.95 * CAPPED.logitSoftCap!))
  const temperature = 0.7
  const { logProbs } = await core.logProbs(role, BATCH, { temperature })
  for (const [at, label] of BATCH.inputIds.entries()) {
    if (at === 0 || at === DOCUMENTS[0]!.length) continue
    const row = [...logits.subarray((at - 1) * CAPPED.vocabSize, at * CAPPED.vocabSize)]
    const sum = row.reduce((total, logit) => total + Math.exp(logit / temperature), 0)
    close(t, logProbs[at]!, row[label]! / temperature - Math.log(sum), { absolute: 1e-5 }, `token ${at}`)
  }
  await dispose()
})

for (const direction of ['forward', 'reverse'] as const) {
  test(`under a soft cap and a temperature the gradient of the ${direction} KL, the entropy and the loss is their slope`, async (t) => {
    const core = await loadCore()
    const other = await made(core, CAPPED, 'float64')
    await scatter(core, other.role, 5)
    const zeros = new Float64Array(BATCH.inputIds.length)
    const terms: TermOver<RoleHandle>[] = [
      { kind: 'fullKl', direction, reference: other.role, coefficient: 0.7 },
      { kind: 'ppoPolicy', oldLogProbs: zeros, advantages: zeros, entropyCoefficient: 0.5 },
      { kind: 'crossEntropy' },
    ]
    await checkGradient(t, CAPPED, terms, 0.8)
    await other.dispose()
  })
}

test('new norms multiply by 1: those by 1 + w start at 0; what writes into the residual stream is scaled', async (t) => {
  const core = await loadCore()
  for (const [offset, start] of [
    [true, 0],
    [false, 1],
  ] as const) {
    const norm = { kind: 'rms', eps: 1e-6, offset } as const
    const { base, role, dispose } = await made(
      core,
      of({ postNorm: true, qkNorm: true }, { norm }),
      'float32',
    )
    await core.initialize(base, { seed: 1, std: 0.5, residualScale: 0.1 })
    for (const { parameter, shape } of await core.parameters(role)) {
      const { values } = await core.getTensor(role, { name: parameter, parameter }, 'value')
      if (shape.length === 1)
        t.true(
          values.every((value) => value === start),
          parameter,
        )
      else {
        const deviation = distance(values, new Float32Array(values.length)) / Math.sqrt(values.length)
        const expected = /\.(out|down)\./.test(parameter) ? 0.05 : 0.5
        t.true(Math.abs(deviation / expected - 1) < 0.1, `${parameter}: ${deviation}`)
      }
    }
    await dispose()
  }
})

const REFUSED: [what: string, spec: DecoderSpec, message: RegExp][] = [
  ['a soft-cap of attention scores', of({ attentionSoftCap: 50 }), /soft-cap of the attention scores/],
  ['layer norms by 1 + w', of({}, { norm: { kind: 'layer', eps: 1e-6, offset: true } }), /offset needs/],
  ['an odd part of a head', of({ rope: { ...rope, rotaryDim: 3 } }), /must be even/],
  ['a part wider than the head', of({ rope: { ...rope, rotaryDim: 8 } }), /at most its 6/],
  ['a multiplier of 0', of({ residualMultiplier: 0 }), /residualMultiplier must be finite and above 0/],
  ['an unknown rotation', of({ rope: { ...rope, kind: 'dynamic' as 'default' } }), /kind must be default/],
]
for (const [what, spec, message] of REFUSED) {
  test(`refused: ${what}`, async (t) => {
    const core = await loadCore()
    const error = await t.throwsAsync(async () => core.createBase(spec, { device: 'cpu', dtype: 'float32' }))
    t.regex(error!.message, message)
  })
}
