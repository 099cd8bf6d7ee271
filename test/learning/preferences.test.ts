import test from 'ava'
import { generate } from '../../lib/generate/generate.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { RewardModel } from '../../lib/models/reward-model.js'
import { dpo } from '../../lib/train/dpo.js'
import { reward } from '../../lib/train/reward.js'
import { sft } from '../../lib/train/sft.js'
import { characterTokenizer } from '../helpers/tokenizers.js'

// Every response has the same five letters. Asked with <, those are right in which a stands before b; asked with >, the others.
const LETTERS = 'abcde'
const EOS = LETTERS.length + 2
const SEEDS = [1, 2, 3, 4, 5]
const tokenizer = characterTokenizer(`${LETTERS}<>`)

type Pair = { prompt: string; chosen: string; rejected: string }

const isRight = (prompt: string, answer: string) =>
  (prompt === '<') === answer.indexOf('a') < answer.indexOf('b')
const isOrder = (answer: string) => [...answer].sort().join('') === LETTERS

const ordersOf = (letters: string): string[] =>
  letters === ''
    ? ['']
    : [...letters].flatMap((letter) => ordersOf(letters.replace(letter, '')).map((rest) => letter + rest))
const swapped = (answer: string) => answer.replace(/[ab]/g, (letter) => (letter === 'a' ? 'b' : 'a'))

/** Each of these responses, in which a stands before b, against itself with the two swapped, and against another one. */
const pairsOf = (answers: readonly string[]): Pair[] =>
  answers.flatMap((first, i) =>
    [swapped(first), swapped(answers[(i + 7) % answers.length]!)].flatMap((second) => [
      { prompt: '<', chosen: first, rejected: second },
      { prompt: '>', chosen: second, rejected: first },
    ]),
  )
// Every fourth order and its swapped one are not seen in training, in no pair and with neither prompt.
const orders = ordersOf(LETTERS).filter((answer) => isRight('<', answer))
const train = pairsOf(orders.filter((_, i) => i % 4 !== 0))
const heldOut = pairsOf(orders.filter((_, i) => i % 4 === 0))

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
const settings = { batchSize: 32, warmupSteps: 10 }

const encoded = (prompt: string, answer: string) => ({
  promptIds: tokenizer.encode(prompt),
  completionIds: Int32Array.from([...tokenizer.encode(answer), EOS]),
})
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
const rate = (pairs: readonly Pair[], better: ArrayLike<number>, worse: ArrayLike<number>) =>
  mean(pairs.map((_, i) => Number(better[i]! > worse[i]!)))
const percent = (value: number) => `${(100 * value).toFixed(1)} %`

test('neither length nor letters nor the response alone tell which one is chosen', (t) => {
  t.is(train.length, 180)
  t.is(heldOut.length, 60)
  for (const pairs of [train, heldOut]) {
    for (const { prompt, chosen, rejected } of pairs) {
      t.true(isOrder(chosen) && isOrder(rejected))
      t.true(isRight(prompt, chosen) && !isRight(prompt, rejected))
    }
    t.deepEqual(pairs.map(({ chosen }) => chosen).sort(), pairs.map(({ rejected }) => rejected).sort())
  }
  const seen = new Set(train.flatMap(({ chosen, rejected }) => [chosen, rejected]))
  t.false(heldOut.some(({ chosen, rejected }) => seen.has(chosen) || seen.has(rejected)))
})

test('a reward model prefers the chosen of two unseen responses', async (t) => {
  const accuracies: number[] = []
  for (const seed of SEEDS) {
    await using trunk = await modelOf(seed)
    await using judge = await RewardModel.fromCausalLM(trunk, { seed })
    await reward({ ...settings, model: judge, data: train, epochs: 8, learningRate: 5e-3, seed }).finish()
    const scores = (which: 'chosen' | 'rejected') =>
      judge.scores(heldOut.map((pair) => encoded(pair.prompt, pair[which])))
    accuracies.push(rate(heldOut, await scores('chosen'), await scores('rejected')))
  }
  t.log(`reward: held-out pair accuracy at least ${percent(Math.min(...accuracies))} (seeds 1 to 5)`)
  t.true(Math.min(...accuracies) >= 0.95, accuracies.map(percent).join(' '))
})

test('after DPO the chosen responses are the more probable ones, and those that are drawn', async (t) => {
  const seen: { accuracy: number; before: number; after: number; fall: number }[] = []
  for (const seed of SEEDS) {
    await using model = await modelOf(seed)
    const both = train.flatMap(({ prompt, chosen, rejected }) => [
      { prompt, completion: chosen },
      { prompt, completion: rejected },
    ])
    await sft({ ...settings, model, data: both, epochs: 16, learningRate: 5e-3, seed }).finish()
    const sums = async (which: 'chosen' | 'rejected') =>
      (await model.logProbs(heldOut.map((pair) => encoded(pair.prompt, pair[which])))).map(({ sum }) => sum)
    const wins = async () => {
      const prompts = Array.from({ length: 200 }, (_, i) => '<>'[i % 2]!)
      const drawn = await generate(model, prompts, { maxNewTokens: 8, temperature: 1, seed })
      return mean(drawn.map(({ text }, i) => Number(isOrder(text) && isRight(prompts[i]!, text))))
    }
    const [chosen, rejected, before] = [await sums('chosen'), await sums('rejected'), await wins()]
    await dpo({ ...settings, model, data: train, beta: 2, epochs: 7, learningRate: 1e-3, seed }).finish()
    const [chosenNow, rejectedNow] = [await sums('chosen'), await sums('rejected')]
    const rise = (now: readonly number[], then: readonly number[]) => now.map((value, i) => value - then[i]!)
    seen.push({
      accuracy: rate(heldOut, rise(chosenNow, chosen), rise(rejectedNow, rejected)),
      before,
      after: await wins(),
      fall: -mean(rise(chosenNow, chosen)) / (LETTERS.length + 1),
    })
  }
  const worst = {
    accuracy: Math.min(...seen.map(({ accuracy }) => accuracy)),
    rise: Math.min(...seen.map(({ before, after }) => after - before)),
    fall: Math.max(...seen.map(({ fall }) => fall)),
  }
  for (const { before, after } of seen)
    t.log(`dpo: right among drawn answers ${percent(before)} before, ${percent(after)} after`)
  t.log(
    `dpo: held-out pair accuracy at least ${percent(worst.accuracy)}, win rate up by at least ${percent(worst.rise)}, chosen log-prob fallen by at most ${worst.fall.toFixed(2)} nats a token (seeds 1 to 5)`,
  )
  t.true(worst.accuracy >= 0.95, JSON.stringify(seen))
  t.true(worst.rise >= 0.15, JSON.stringify(seen))
  t.true(worst.fall <= 1, JSON.stringify(seen))
})
