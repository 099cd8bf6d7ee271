// What the counter says against what the allocator saw, in real runs, after their first step.
import test, { type ExecutionContext } from 'ava'
import { estimateMemory } from '../../lib/estimate/estimate.js'
import type { CountedOptions, ModelShape, RewardShape } from '../../lib/estimate/runs.js'
import {
  CausalLM,
  dpo,
  grpo,
  ppo,
  pretrain,
  type Reward,
  type RewardFunction,
  RewardModel,
  reward,
  rloo,
  sft,
} from '../../lib/index.js'
import type { Model } from '../../lib/models/model.js'
import type { RecipeName } from '../../lib/train/recipes.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const tokenizer = byteTokenizer()

const llama = {
  model_type: 'llama',
  vocab_size: 512,
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  eos_token_id: 256,
}
const CONFIGS = {
  llama,
  gpt2: {
    model_type: 'gpt2',
    vocab_size: 1024,
    n_embd: 192,
    n_layer: 2,
    n_head: 6,
    n_positions: 512,
    activation_function: 'gelu_new',
    eos_token_id: 256,
  },
  qwen3: {
    ...llama,
    model_type: 'qwen3',
    hidden_size: 96,
    head_dim: 32,
    num_hidden_layers: 2,
    tie_word_embeddings: true,
  },
  gemma3: {
    ...llama,
    model_type: 'gemma3_text',
    head_dim: 32,
    hidden_activation: 'gelu_pytorch_tanh',
    sliding_window: 96,
    sliding_window_pattern: 2,
    final_logit_softcapping: 30,
    tie_word_embeddings: true,
  },
  /** As a reward model is saved: without an output projection. */
  tied: { ...llama, tie_word_embeddings: true },
  mistral: { ...llama, model_type: 'mistral', sliding_window: 96, num_hidden_layers: 2 },
}
type Name = keyof typeof CONFIGS

const create = (name: Name, quantize?: 'nf4') =>
  CausalLM.create(CONFIGS[name], { seed: 0, tokenizer, ...(quantize && { quantize }) })

const shapeOf = (model: Model): ModelShape => {
  const { family, spec, quantize } = model.role.base
  return { family, spec, coded: quantize !== null, contextLength: model.contextLength }
}

/** Letters, a token each. */
const text = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => String.fromCharCode(97 + ((i * 7 + seed * 11) % 26))).join('')

/** Rollouts may end early, elsewhere all sizes are known. */
function isNear(t: ExecutionContext, what: string, counted: number, measured: number, by: 0.05 | 0.15): void {
  const ratio = counted / measured
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`
  t.log(`${what}: counted ${megabytes(counted)}, measured ${megabytes(measured)}, ratio ${ratio.toFixed(3)}`)
  t.true(Math.abs(ratio - 1) <= by, `${what}: ${ratio}`)
}

async function estimateOf(
  model: Model,
  recipe: RecipeName,
  options: CountedOptions,
  rewards: RewardShape[] = [],
) {
  const { threads } = await model.role.core.info()
  return estimateMemory({
    recipe,
    model: shapeOf(model),
    adapter: model.role.adapterConfig,
    rewards,
    options,
    machine: { device: 'cpu', dtype: 'float32', threads },
  })
}

const plain = { activationCheckpointing: false, batchSize: 8, maxLength: 256 }
const supervised: [string, RecipeName, Name, CountedOptions, 'nf4'?][] = [
  ['LoRA upon 4 bits', 'sft', 'llama', { ...plain, lora: { rank: 16 } }, 'nf4'],
  [
    'LoRA upon 4 bits, checkpointing',
    'sft',
    'qwen3',
    { ...plain, activationCheckpointing: true, maxLength: 100, lora: { rank: 8 } },
    'nf4',
  ],
  ['DoRA upon 4 bits', 'sft', 'gpt2', { ...plain, batchSize: 4, lora: { rank: 8, dora: true } }, 'nf4'],
  ['all weights', 'pretrain', 'llama', { ...plain, batchSize: 4 }],
  ['all weights', 'sft', 'llama', plain],
  ['all weights', 'sft', 'gpt2', { ...plain, batchSize: 4, maxLength: 300 }],
  ['all weights', 'sft', 'qwen3', { ...plain, maxLength: 200 }],
  ['all weights', 'sft', 'gemma3', { ...plain, batchSize: 4 }],
  ['LoRA, checkpointing', 'sft', 'gemma3', { ...plain, activationCheckpointing: true, lora: { rank: 8 } }],
  ['moments in 8 bits', 'sft', 'gpt2', { ...plain, batchSize: 4, optimizer: 'adamw8bit' }],
  ['moments in bfloat16', 'sft', 'gpt2', { ...plain, batchSize: 4, optimizer: 'adamw16bit' }],
  ['moments in 8 bits, LoRA', 'sft', 'llama', { ...plain, optimizer: 'adamw8bit', lora: { rank: 32 } }],
  ['a sliding window', 'sft', 'mistral', { ...plain, batchSize: 4 }],
  ['checkpointing', 'sft', 'llama', { ...plain, activationCheckpointing: true }],
  ['LoRA', 'sft', 'llama', { ...plain, lora: { rank: 16 } }],
  [
    'LoRA of some layers',
    'sft',
    'gpt2',
    { ...plain, batchSize: 4, lora: { rank: 4, targetModules: ['c_attn'] } },
  ],
  [
    'LoRA, checkpointing',
    'sft',
    'llama',
    { ...plain, batchSize: 2, maxLength: 512, activationCheckpointing: true, lora: { rank: 16 } },
  ],
  ['DoRA', 'sft', 'qwen3', { ...plain, maxLength: 200, lora: { rank: 8, dora: true } }],
  [
    'LoRA of the embedding and the head',
    'sft',
    'llama',
    { ...plain, lora: { rank: 16, targetModules: ['embed_tokens', 'lm_head', 'q_proj'] } },
  ],
  [
    'copies of the embedding and the head, biases',
    'sft',
    'gpt2',
    { ...plain, batchSize: 4, lora: { rank: 4, modulesToSave: ['wte', 'lm_head', 'ln_f'], bias: 'all' } },
  ],
  ['all weights', 'dpo', 'llama', { ...plain, batchSize: 3 }],
  ['LoRA', 'dpo', 'llama', { ...plain, batchSize: 3, lora: { rank: 8 } }],
  ['kto, all weights', 'dpo', 'llama', { ...plain, batchSize: 4, loss: 'kto' }],
  ['kto, LoRA', 'dpo', 'llama', { ...plain, batchSize: 4, loss: 'kto', lora: { rank: 8 } }],
  ['all weights', 'reward', 'llama', { ...plain, batchSize: 3 }],
]
for (const [what, recipe, name, options, quantize] of supervised) {
  test.serial(`${recipe} of ${name}, ${what}`, async (t) => {
    await using model = await create(name, quantize)
    const { core } = model.role
    const counted = await estimateOf(model, recipe, options)
    const length = options.maxLength! - 9
    const data = Array.from({ length: 2 * options.batchSize! }, (_, i) => ({
      prompt: 'question',
      completion: text(length, i),
      chosen: text(length, i),
      rejected: text(length, i + 1),
    }))
    const given = { ...options, model, template: 'none', maxSteps: 2 } as never as { model: CausalLM }
    const pairs = data.map(({ prompt, chosen, rejected }) => ({ prompt, chosen, rejected }))
    const judged = data.map(({ prompt, completion }, i) => ({ prompt, completion, label: i % 2 === 0 }))
    const answers = data.map(({ prompt, completion }) => ({ prompt, completion }))
    const texts = data.map(({ completion }) => ({ text: `question${completion}` }))
    const { template: _, ...ofText } = given as never as { template: string; model: CausalLM }
    const run = {
      pretrain: () => pretrain({ ...ofText, data: texts }),
      sft: () => sft({ ...given, data: answers, trainOn: 'all' }),
      dpo: () => dpo({ ...given, data: options.loss === 'kto' ? judged : pairs }),
      reward: () => reward({ ...given, data: pairs }),
    }[recipe as 'sft']()
    let steps = 0
    for await (const { type } of run as AsyncIterable<{ type: string }>)
      if (type === 'step' && ++steps === 1) await core.resetPeak()
    t.is(steps, 2)
    const measured = (await core.info()).peakAllocatedBytes
    isNear(t, recipe, counted.peak, measured, 0.05)
  })
}

/** What a rollout and what comes after it had at most, in the iterations after the first. */
async function measurePolicy(
  model: CausalLM,
  start: (reward: RewardFunction, data: { prompt: string }[]) => unknown,
): Promise<{ rollout: number; rest: number }> {
  const { core } = model.role
  const peaks = { rollout: 0, rest: 0 }
  let after = false
  const note = async (which: 'rollout' | 'rest') => {
    if (after) peaks[which] = Math.max(peaks[which], (await core.info()).peakAllocatedBytes)
    await core.resetPeak()
  }
  const judge: RewardFunction = async (samples) => {
    await note('rollout')
    return samples.map((_, i) => i % 3)
  }
  const data = Array.from({ length: 8 }, (_, i) => ({ prompt: text(48, i) }))
  for await (const { type } of start(judge, data) as AsyncIterable<{ type: string }>) {
    if (type !== 'step') continue
    await note('rest')
    after = true
  }
  return peaks
}

const rollout = {
  activationCheckpointing: false,
  batchSize: 8,
  batchTokens: 480,
  maxNewTokens: 48,
  maxPromptLength: 48,
  temperature: 1,
  epochs: 1,
}
const common = { template: 'none' as const, iterations: 2 }

async function comparePolicy(
  t: ExecutionContext,
  recipe: RecipeName,
  options: CountedOptions,
  model: CausalLM,
  start: (judge: RewardFunction, data: { prompt: string }[]) => unknown,
  rewards: RewardShape[] = [],
): Promise<void> {
  const counted = await estimateOf(model, recipe, options, rewards)
  const measured = await measurePolicy(model, start)
  const most = (...phases: string[]) =>
    Math.max(...counted.phases.filter(({ phase }) => phases.includes(phase)).map(({ peak }) => peak.total))
  isNear(t, `${recipe}, rollout`, most('rollout'), measured.rollout, 0.15)
  isNear(t, `${recipe}, score and update`, most('score', 'update'), measured.rest, 0.15)
  isNear(t, `${recipe}, all of it`, counted.peak, Math.max(measured.rollout, measured.rest), 0.15)
}

/** The function first: it is asked right after the rollout. */
const both = (judge: RewardFunction, model: RewardModel): Reward => [
  { reward: judge, weight: 1, name: 'function' },
  { reward: model, weight: 1, name: 'model' },
]

test.serial('ppo with four models', async (t) => {
  await using model = await create('llama')
  await using trunk = await create('tied')
  await using judged = await RewardModel.fromCausalLM(trunk, { seed: 0 })
  await trunk.dispose()
  const options = { ...rollout, klCoef: 0.05 }
  await comparePolicy(
    t,
    'ppo',
    options,
    model,
    (judge, data) => ppo({ ...common, ...options, model, data, reward: both(judge, judged) }),
    [{ kind: 'model', model: shapeOf(judged) }],
  )
})

test.serial('ppo on one base, with checkpointing', async (t) => {
  await using model = await create('llama')
  const options = { ...rollout, klCoef: 0.05, activationCheckpointing: true, lora: { rank: 16 } }
  await comparePolicy(t, 'ppo', options, model, (judge, data) =>
    ppo({ ...common, ...options, model, data, reward: judge }),
  )
})

test.serial('ppo of an adapter in use: the critic and the reference have copies of it', async (t) => {
  await using model = await create('qwen3')
  await model.addAdapter('first', { rank: 8, targetModules: ['q_proj', 'down_proj'] })
  const options = { ...rollout, klCoef: 0.05 }
  await comparePolicy(t, 'ppo', options, model, (judge, data) =>
    ppo({ ...common, ...options, model, data, reward: judge }),
  )
})

test.serial('ppo with a KL over the whole vocabulary', async (t) => {
  await using model = await create('qwen3')
  const kl = { in: 'loss' as const, estimator: 'full' as const }
  const options = { ...rollout, klCoef: 0.05, kl, lora: { rank: 4 }, temperature: 0.8 }
  await comparePolicy(t, 'ppo', options, model, (judge, data) =>
    ppo({ ...common, ...options, model, data, reward: judge }),
  )
})

test.serial('grpo without a reference, all weights', async (t) => {
  await using model = await create('gpt2')
  const options = { ...rollout, batchSize: 2, groupSize: 4, klCoef: 0 }
  await comparePolicy(t, 'grpo', options, model, (judge, data) =>
    grpo({ ...common, ...options, model, data, reward: judge }),
  )
})

const groups = { ...rollout, batchSize: 2, groupSize: 4, klCoef: 0.05, lora: { rank: 16 } }

test.serial('grpo with a reference, LoRA', async (t) => {
  await using model = await create('llama')
  await comparePolicy(t, 'grpo', groups, model, (judge, data) =>
    grpo({ ...common, ...groups, model, data, reward: judge }),
  )
})

test.serial('grpo with a reference, LoRA upon 4 bits', async (t) => {
  await using model = await create('llama', 'nf4')
  await comparePolicy(t, 'grpo', groups, model, (judge, data) =>
    grpo({ ...common, ...groups, model, data, reward: judge }),
  )
})

test.serial('grpo that samples two responses at once', async (t) => {
  await using model = await create('llama')
  const options = { ...groups, rolloutBatchSize: 2 }
  await comparePolicy(t, 'grpo', options, model, (judge, data) =>
    grpo({ ...common, ...options, model, data, reward: judge }),
  )
})

test.serial('rloo with a reference, LoRA', async (t) => {
  await using model = await create('qwen3')
  await comparePolicy(t, 'rloo', groups, model, (judge, data) =>
    rloo({ ...common, ...groups, model, data, reward: judge }),
  )
})
