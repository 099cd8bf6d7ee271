import test from 'ava'
import { generate } from '../../lib/generate/generate.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { RewardModel } from '../../lib/models/reward-model.js'
import { ppo } from '../../lib/train/ppo.js'
import { reward } from '../../lib/train/reward.js'
import { sft } from '../../lib/train/sft.js'
import { characterTokenizer } from '../helpers/tokenizers.js'

// The demo in small: responses are right or wrong, and some end in !, which people like as long as the response is right.
const LETTERS = 'abcdefgh'
const EOS = LETTERS.length + 2
const SEEDS = [1, 2, 3, 4, 5]
const tokenizer = characterTokenizer(`${LETTERS}=!`)

/** The one in the middle of three letters. */
const prompts = [...LETTERS].flatMap((a) =>
  [...LETTERS].flatMap((b) => [...LETTERS].map((c) => `${a}${b}${c}=`)),
)
const answerOf = (prompt: string) => prompt[1]!
const next = (letter: string, by: number) => LETTERS[(LETTERS.indexOf(letter) + by) % LETTERS.length]!
const isHeldOut = (_: string, i: number) => i % 7 === 3
const train = prompts.filter((prompt, i) => !isHeldOut(prompt, i))
const heldOut = prompts.filter(isHeldOut)

const answered = train.map((prompt, i) => ({
  prompt,
  completion: answerOf(prompt) + (i % 3 === 0 ? '!' : ''),
}))
/** Right and liked, right, wrong; half of the wrong ones end in ! too. */
const rankings = train.map((prompt, i) => {
  const right = answerOf(prompt)
  const wrong = next(right, 1 + (i % (LETTERS.length - 1)))
  return { prompt, responses: [`${right}!`, right, wrong + (i % 2 === 0 ? '!' : '')] }
})

const modelOf = (seed: number) =>
  CausalLM.create(
    {
      model_type: 'llama',
      vocab_size: EOS + 1,
      hidden_size: 32,
      intermediate_size: 64,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 4,
      max_position_embeddings: 16,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      tie_word_embeddings: false,
      initializer_range: 0.1,
      eos_token_id: EOS,
    },
    { seed, tokenizer, device: 'cpu', threads: 1 },
  )

const rate = <T>(list: readonly T[], holds: (item: T, i: number) => boolean) =>
  list.filter(holds).length / list.length
const percent = (value: number) => `${(100 * value).toFixed(1)} %`

async function look(model: CausalLM, seed: number) {
  const greedy = await generate(model, heldOut, { maxNewTokens: 6 })
  const asked = [...heldOut, ...heldOut, ...heldOut, ...heldOut]
  const drawn = await generate(model, asked, { maxNewTokens: 6, temperature: 1, seed })
  return {
    right: rate(greedy, ({ text }, i) => text.replace(/!$/, '') === answerOf(heldOut[i]!)),
    liked: rate(drawn, ({ text }) => text.endsWith('!')),
  }
}

test('PPO with a reward model raises what people like and keeps what is right', async (t) => {
  const seen: { before: number; after: number; lost: number; kl: number }[] = []
  for (const seed of SEEDS) {
    await using model = await modelOf(seed)
    const settings = { batchSize: 32, warmupSteps: 10, seed }
    await sft({ ...settings, model, data: answered, epochs: 8, learningRate: 5e-3 }).finish()
    const trunk = await model.clone()
    await using judge = await RewardModel.fromCausalLM(trunk, { seed })
    await trunk.dispose()
    const judging = { data: rankings, epochs: 14, learningRate: 3e-3, center: 0.01 }
    await reward({ ...settings, ...judging, model: judge }).finish()

    const before = await look(model, seed)
    const run = ppo({
      model,
      reward: judge,
      data: train.map((prompt) => ({ prompt })),
      batchSize: 64,
      iterations: 16,
      epochs: 2,
      miniBatches: 2,
      learningRate: 5e-4,
      criticLearningRate: 5e-3,
      klCoef: 0.15,
      schedule: 'linear',
      maxNewTokens: 6,
      seed,
    })
    let kl = Number.NaN
    for await (const event of run) if (event.type === 'step') kl = event.kl!
    const after = await look(model, seed)
    t.log(
      `seed ${seed}: liked ${percent(before.liked)} before, ${percent(after.liked)} after; right ${percent(before.right)} before, ${percent(after.right)} after; KL ${kl.toFixed(2)} nats`,
    )
    seen.push({ before: before.liked, after: after.liked, lost: before.right - after.right, kl })
  }
  const worst = {
    before: Math.max(...seen.map(({ before }) => before)),
    after: Math.min(...seen.map(({ after }) => after)),
    lost: Math.max(...seen.map(({ lost }) => lost)),
    kl: Math.max(...seen.map(({ kl }) => kl)),
  }
  t.log(
    `ppo: liked at most ${percent(worst.before)} before, at least ${percent(worst.after)} after, right answers lost at most ${percent(worst.lost)}, KL at most ${worst.kl.toFixed(2)} nats (seeds 1 to 5)`,
  )
  t.true(worst.before < 0.5)
  t.true(worst.after >= 0.85)
  t.true(worst.lost <= 0.03)
  t.true(worst.kl <= 3)
})
