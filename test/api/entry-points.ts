import { join } from 'node:path'
import {
  type EntryPoint,
  entry,
  type Given,
  LENGTHS,
  MESSAGES,
  PADDED,
  PAIRS,
  ROWS,
  SIGNAL,
} from './entry-point.js'

import { lossFunctions } from './loss-entry-points.js'
import { modelMethods } from './model-entry-points.js'

function statics({ api, model, folder, tokenizer }: Given): EntryPoint[] {
  const { CausalLM, RewardModel, Tokenizer, Template } = api
  const saved = join(folder, 'saved')
  const load = {
    device: 'cpu',
    dtype: 'float32',
    threads: undefined,
    signal: SIGNAL,
    token: undefined,
    revision: undefined,
  }
  const { tokenizerJson, tokenizerConfig } = tokenizer.files
  const template = api.plainTemplate
  return [
    entry('CausalLM.load', (...args) => CausalLM.load(...(args as [never])), [saved], load),
    entry('CausalLM.create', (...args) => CausalLM.create(...(args as [never, never])), [model.config], {
      tokenizer: model.tokenizer,
      seed: 0,
      device: 'cpu',
      dtype: 'float32',
      signal: SIGNAL,
    }),
    entry('RewardModel.load', (...args) => RewardModel.load(...(args as [never])), [saved], {
      ...load,
      onto: undefined,
    }),
    entry('RewardModel.fromCausalLM', (...args) => RewardModel.fromCausalLM(...(args as [never])), [model], {
      seed: 0,
      adapter: null,
    }),
    entry('Tokenizer.load', (...args) => Tokenizer.load(...(args as [never])), [saved], {
      token: undefined,
      revision: undefined,
      signal: SIGNAL,
    }),
    entry('Tokenizer.fromFiles', (...args) => Tokenizer.fromFiles(...(args as [never])), [], {
      tokenizerJson,
      tokenizerConfig,
      chatTemplate: undefined,
    }),
    entry('tokenizer.encode', (...args) => tokenizer.encode(...(args as [never])), ['a'], {
      allowSpecial: true,
      first: true,
    }),
    entry('tokenizer.encodeBatch', (...args) => tokenizer.encodeBatch(...(args as [never])), [['a']], {
      allowSpecial: true,
      first: true,
    }),
    entry('tokenizer.decode', (...args) => tokenizer.decode(...(args as [never])), [[1, 2]], {
      skipSpecialTokens: true,
    }),
    entry('tokenizer.streamDecoder', (...args) => tokenizer.streamDecoder(...(args as [])), [], {
      skipSpecialTokens: true,
    }),
    entry('streamDecoder.push', (...args) => tokenizer.streamDecoder().push(...(args as [never])), [1]),
    entry('tokenizer.offsets', (...args) => tokenizer.offsets(...(args as [never])), [[1, 2]]),
    entry('tokenizer.added', (...args) => tokenizer.added(...(args as [never])), ['a']),
    entry('tokenizer.firstSpecial', (...args) => tokenizer.firstSpecial(...(args as [never])), ['a', 0]),
    entry('tokenizer.endsWithSpecial', (...args) => tokenizer.endsWithSpecial(...(args as [never])), ['a']),
    entry('tokenizer.tokenToId', (...args) => tokenizer.tokenToId(...(args as [never])), ['a']),
    entry('tokenizer.idToToken', (...args) => tokenizer.idToToken(...(args as [never])), [1]),
    entry('tokenizer.isSpecial', (...args) => tokenizer.isSpecial(...(args as [never])), [1]),
    entry('tokenizer.save', (...args) => tokenizer.save(...(args as [never])), [saved], {
      chatTemplate: 'a',
      padToken: 'a',
    }),
    entry(
      'Template.fromSource',
      (...args) => Template.fromSource(...(args as [never])),
      ['{{ messages }}', 'name'],
      { prefixed: true },
    ),
    entry('Template.load', (...args) => Template.load(...(args as [never])), [join(folder, 'nowhere')]),
    entry('template.prompt', (...args) => template.prompt(...(args as [never])), [
      { messages: MESSAGES },
      tokenizer,
    ]),
    entry('template.prompt of a row', (row) => template.prompt(row), [], {
      messages: MESSAGES,
      tools: undefined,
    }),
    entry('template.promptIds', (...args) => template.promptIds(...(args as [never, never])), [
      { messages: MESSAGES },
      tokenizer,
    ]),
    entry('template.prefixIds', (...args) => template.prefixIds(...(args as [never])), [tokenizer]),
    entry('template.sourceFor', (...args) => template.sourceFor(...(args as [never])), [tokenizer]),
    entry('template.terminator', (...args) => template.terminator(...(args as [never])), [tokenizer]),
    entry(
      'template.segments',
      (...args) => template.segments(...(args as [never, never, never])),
      [{ messages: MESSAGES }, tokenizer],
      { trainOn: 'assistant', tools: undefined },
    ),
  ]
}

function functions({ api, model, folder, tokenizer }: Given): EntryPoint[] {
  const {
    AdamW,
    DataLoader,
    toPacked,
    toBatch,
    generate,
    stream,
    chat,
    push,
    learningRateAt,
    installLibtorch,
    onHubEvent,
  } = api
  const generation = {
    maxNewTokens: 1,
    temperature: 1,
    topK: 1,
    topP: 1,
    seed: 0,
    stop: 'x',
    stopIds: [1],
    logProbs: true,
    signal: SIGNAL,
  }
  const adam = { learningRate: 0.1, beta1: 0.9, beta2: 0.9, eps: 1e-8, weightDecay: 0, decay: 'all' }
  const loader = {
    tokenizer,
    maxLength: 8,
    batchSize: 1,
    seed: 0,
    shuffle: true,
    form: 'packed',
    trainOn: 'assistant',
    overflow: 'drop',
    onBadRow: 'skip',
    template: undefined,
  }
  const epoch = (rows: unknown, options: unknown) => new DataLoader(rows as never, options as never).epoch(0)
  return [
    entry('new AdamW', (...args) => new AdamW(...(args as [never, never])), [model], adam),
    entry('adamw.step', (...args) => new AdamW(model, { learningRate: 0 }).step(...(args as [])), [], {
      learningRate: 0,
      maxGradNorm: 1,
    }),
    entry('adamw.save', (...args) => new AdamW(model, { learningRate: 0 }).save(...(args as [never])), [
      join(folder, 'adam'),
      SIGNAL,
    ]),
    entry('adamw.load', (...args) => new AdamW(model, { learningRate: 0 }).load(...(args as [never])), [
      join(folder, 'adam'),
    ]),
    entry('new DataLoader', epoch, [ROWS], loader),
    entry('loader.epoch', (...args) => new DataLoader(ROWS, { tokenizer }).epoch(...(args as [never])), [0], {
      from: 0,
    }),
    entry('toPacked', (...args) => toPacked(...(args as [never])), [], PADDED),
    entry('toBatch', (...args) => toBatch(...(args as [never])), [[{ inputIds: [1] }]]),
    entry('toBatch of a row', (row) => toBatch([row]), [], { inputIds: [1, 2], labels: [1, 2], weight: 1 }),
    entry(
      'generate',
      (...args) => generate(...(args as [never, never])),
      [model, [Int32Array.of(1)]],
      generation,
    ),
    entry('generate of a prompt', (prompt) => generate(model, [prompt], { maxNewTokens: 1 }), ['a']),
    entry(
      'stream',
      (...args) => stream(...(args as [never, never])),
      [model, [Int32Array.of(1)]],
      generation,
    ),
    entry('chat', (...args) => chat(...(args as [never, never])), [model, MESSAGES], generation),
    entry('push', (...args) => push(...(args as [never, never])), [join(folder, 'saved'), 'a/b/c'], {
      private: true,
      revision: 'main',
      token: undefined,
      message: 'x',
      signal: SIGNAL,
    }),
    entry('learningRateAt', (...args) => learningRateAt(...(args as [never, never])), [0], {
      learningRate: 1,
      schedule: 'linear',
      totalSteps: 5,
      warmupSteps: 1,
      minLearningRateRatio: 0,
      decayRatio: 0.1,
    }),
    entry(
      'installLibtorch',
      (value) =>
        installLibtorch(
          typeof value === 'object' && value !== null && 'from' in value ? value : { from: value },
        ),
      [],
      { from: folder, variant: 'cpu', force: true, signal: SIGNAL },
    ),
    entry('onHubEvent', (...args) => onHubEvent(...(args as [never]))(), [() => undefined]),
  ]
}

function recipes({ api, model, folder }: Given): EntryPoint[] {
  const shared = { model, learningRate: 1e-6, seed: 0, output: undefined, signal: SIGNAL }
  const rows = { ...shared, ...LENGTHS }
  const score = (samples: readonly unknown[]) => samples.map(() => 1)
  const policy = { ...shared, data: [{ prompt: 'abc' }], maxNewTokens: 1, iterations: 1, batchSize: 1 }
  const pairs = { ...rows, data: PAIRS }
  const call = (recipe: (options: never) => unknown) => (options: unknown) => recipe(options as never)
  return [
    entry('sft', call(api.sft), [], { ...rows, data: ROWS, validation: undefined, template: undefined }),
    entry('sft with lora', (lora) => api.sft({ ...rows, data: ROWS, lora }), [], {
      rank: 1,
      alpha: 1,
      dropout: undefined,
      targetModules: ['q_proj'],
      rsLora: false,
      dora: undefined,
    }),
    entry('sft with a weight', (weight) => api.sft({ ...rows, data: [{ data: ROWS, weight }] }), [1]),
    entry('pretrain', call(api.pretrain), [], { ...rows, data: ROWS }),
    entry('dpo', call(api.dpo), [], { ...pairs, loss: 'sigmoid', beta: 0.1 }),
    entry('reward', call(api.reward), [], pairs),
    entry('reward with lora', (lora) => api.reward({ ...pairs, lora }), [], { rank: 1, alpha: 1 }),
    entry('grpo', call(api.grpo), [], { ...policy, reward: score, groupSize: 2 }),
    entry('rloo', call(api.rloo), [], { ...policy, reward: score, groupSize: 2 }),
    entry('ppo', call(api.ppo), [], { ...policy, reward: score, critic: undefined }),
    entry('distill', call(api.distill), [], {
      model,
      data: [{ prompt: 'abc' }],
      output: join(folder, 'rows.jsonl'),
      overwrite: true,
      maxNewTokens: 1,
      seed: 0,
      signal: SIGNAL,
    }),
  ]
}

/** Every function, method and constructor that users call. */
export function entryPoints(given: Given): EntryPoint[] {
  const all = [
    ...statics(given),
    ...recipes(given),
    ...functions(given),
    ...lossFunctions(given),
    ...modelMethods(given),
  ]
  // Adapters freeze the base for those after them.
  const adapts = ({ name }: EntryPoint) => /[aA]dapter|lora/.test(name)
  return [...all.filter((one) => !adapts(one)), ...all.filter(adapts)]
}
