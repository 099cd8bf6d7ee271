import test from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { grpo, rloo } from '../../lib/train/grpo.js'
import type { PpoOptions } from '../../lib/train/options/options.generated.js'
import { ppo } from '../../lib/train/ppo.js'
import { characterTokenizer } from '../helpers/tokenizers.js'

// One token is the whole response, so the optimum of reward minus klCoef times KL is known exactly.
const BETA = 0.5
const GROUP = 4
/** Of each token, `<eos>` at the end: to end at once is a response like any other. */
const REWARDS = [0, 1.8, 0.6, 1.2, 0.2, 1.5, 0.9, 1.6]
const SEEDS = [1, 2, 3, 4, 5]
const BOUND = 0.05

const tokenizer = characterTokenizer('abcdefg')
const bandit = (seed: number) =>
  CausalLM.create(
    {
      model_type: 'llama',
      vocab_size: REWARDS.length,
      hidden_size: 16,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      max_position_embeddings: 8,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      tie_word_embeddings: false,
      initializer_range: 0.25,
      eos_token_id: REWARDS.length - 1,
    },
    { seed, tokenizer, device: 'cpu', threads: 1 },
  )

async function probabilities(model: CausalLM, temperature: number): Promise<number[]> {
  const logits = await model.logits({ inputIds: Int32Array.of(0), offsets: Int32Array.of(0, 1) })
  return normalised(Array.from(logits, (logit) => Math.exp(logit / temperature)))
}
function normalised(weights: readonly number[]): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0)
  return weights.map((weight) => weight / sum)
}
const tilted = (reference: readonly number[], strength: number) =>
  normalised(reference.map((p, i) => p * Math.exp(strength * REWARDS[i]!)))
const totalVariation = (p: readonly number[], q: readonly number[]) =>
  0.5 * p.reduce((sum, value, i) => sum + Math.abs(value - q[i]!), 0)

const shared = {
  data: [{ prompt: 'a' }],
  reward: (samples: readonly { tokenIds: Int32Array }[]) =>
    samples.map(({ tokenIds }) => REWARDS[tokenIds[0]!]!),
  maxNewTokens: 1,
  klCoef: BETA,
  iterations: 75,
  learningRate: 0.03,
  // Towards the end small steps, so that the draws of the last rollouts do not show.
  schedule: 'linear',
} as const
const groups = { ...shared, batchSize: 32, groupSize: GROUP }

type Train = (model: CausalLM, seed: number) => { finish(): Promise<unknown> }
const withPpo =
  (options: Partial<PpoOptions>): Train =>
  (model, seed) =>
    ppo({ ...shared, batchSize: 128, criticLearningRate: 0.03, ...options, model, seed })

/** What is trained, for which seeds, and the factor of the rewards in the exponent. */
const CASES: Record<
  string,
  { seeds: readonly number[]; strength: number; temperature?: number; train: Train }
> = {
  ppo: { seeds: SEEDS, strength: 1 / BETA, train: withPpo({ epochs: 2 }) },
  'ppo of adapters on one base': {
    seeds: SEEDS.slice(0, 2),
    strength: 1 / BETA,
    train: withPpo({ epochs: 2, lora: { rank: 8 } }),
  },
  // In the loss the penalty is not whitened, so the advantages must not be either.
  ...Object.fromEntries(
    (['k2', 'k3', 'full'] as const).map((estimator) => [
      `ppo with ${estimator} in the loss`,
      {
        seeds: SEEDS.slice(0, 2),
        strength: 1 / BETA,
        train: withPpo({ epochs: 1, batchSize: 256, whitenAdvantages: false, kl: { in: 'loss', estimator } }),
      },
    ]),
  ),
  rloo: {
    seeds: SEEDS,
    strength: 1 / BETA,
    train: (model, seed) => rloo({ ...groups, model, seed }),
  },
  'rloo at temperature 0.6': {
    seeds: SEEDS.slice(0, 2),
    strength: 1 / BETA,
    temperature: 0.6,
    train: (model, seed) => rloo({ ...groups, temperature: 0.6, model, seed }),
  },
  // A response is part of the mean that it is compared with, but not of the penalty.
  grpo: {
    seeds: SEEDS,
    strength: (1 - 1 / GROUP) / BETA,
    train: (model, seed) => grpo({ ...groups, scaleRewards: 'none', model, seed }),
  },
}

for (const [name, { seeds, strength, temperature = 1, train }] of Object.entries(CASES)) {
  test.serial(`${name} comes to the optimum of a bandit`, async (t) => {
    const off: number[] = []
    for (const seed of seeds) {
      await using model = await bandit(seed)
      const reference = await probabilities(model, temperature)
      const optimum = tilted(reference, strength)
      // The bound tells this optimum from where it starts, and from those of other penalties.
      for (const other of [0, -1, GROUP / (GROUP - 1), (GROUP - 1) / GROUP])
        t.true(totalVariation(optimum, tilted(reference, other * strength)) > BOUND)
      await train(model, seed).finish()
      off.push(totalVariation(await probabilities(model, temperature), optimum))
    }
    t.log(`${name}: total variation at most ${Math.max(...off).toFixed(4)} (seeds ${seeds.join(', ')})`)
    t.true(Math.max(...off) <= BOUND, off.join(' '))
  })
}
