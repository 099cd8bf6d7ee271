// The third stage: people prefer polite answers, as long as they are right. A reward model learns that from rankings,
// and PPO with its four models teaches it to the language model.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generate, plainTemplate, ppo, RewardModel, reward, sft } from '../../dist/lib/index.js'
import { train } from './stage.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))
const POLITE = /(，谢谢!|, thanks!)$/
const plain = (text) => text.replace(POLITE, '')

/** What this stage must reach: answers drawn at temperature 1, greedy ones for what is right. */
export const ALIGNMENT_GATE = { politeBefore: 0.5, politeAfter: 0.85, lost: 0.03, kl: 3 }

/** Answers drawn to each held-out question. */
const DRAWS = 4

/** Greedy and drawn answers to the held-out questions: how many are right, how many polite, and what they score. */
async function look(model, judge, rows, { seed, signal }) {
  const prompts = rows.map((row) => plainTemplate.promptIds(row, model.tokenizer))
  const asked = Array.from({ length: DRAWS }, () => prompts).flat()
  const greedy = await generate(model, prompts, { maxNewTokens: 32, signal })
  const drawn = await generate(model, asked, { maxNewTokens: 32, temperature: 1, seed, signal })
  const rate = (list, holds) => list.filter(holds).length / list.length
  const isRight = ({ text }, i) => plain(text.trim()) === rows[i].output
  const scores = await judge.scores(
    drawn.map(({ tokenIds }, i) => ({ promptIds: asked[i], completionIds: tokenIds })),
  )
  return {
    right: rate(greedy, isRight),
    polite: rate(drawn, ({ text }) => POLITE.test(text.trim())),
    score: scores.reduce((sum, score) => sum + score, 0) / scores.length,
    samples: [0, 1].map((i) => ({ prompt: rows[i].instruction, text: drawn[i].text.trim() })),
  }
}

/** Tells scores, manners and two answers before and after. */
function tellChanges(teller, before, after, kl) {
  const percent = (value) => `${(100 * value).toFixed(1)} %`
  teller.title('What judgements have changed')
  teller.say('                                         before    after')
  const line = (name, of) => teller.say(`  ${name.padEnd(38)} ${of(before).padEnd(9)} ${of(after)}`)
  line('score of the reward model', ({ score }) => score.toFixed(2))
  line('polite answers', ({ polite }) => percent(polite))
  line('right answers to held-out questions', ({ right }) => percent(right))
  teller.say(`  distance from what it was (KL)         ${''.padEnd(9)} ${kl.toFixed(2)} nats an answer`)
  for (const i of [0, 1]) {
    teller.say(`  ${before.samples[i].prompt}`)
    teller.say(`    before: ${before.samples[i].text}`)
    teller.say(`    after:  ${after.samples[i].text}`)
  }
}

/** Trains `model` on; gives what it was before and after, and whether that is enough. */
export async function alignWithFeedback({ model, heldOut, output, quick, teller, signal, seed = 1 }) {
  const data = (name) => join(folder, name)
  const shared = { template: 'plain', overwrite: true, seed, signal }

  teller.title(
    'Stage 3: learning from judgements. First it reads answers of which every third is polite, so that it knows both ways.',
  )
  const manners = await train(
    sft({
      ...shared,
      model,
      data: data('polite.jsonl'),
      learningRate: 1e-3,
      beta2: 0.99,
      batchSize: 16,
      minLearningRateRatio: 0.05,
      maxLength: 256,
      ...(quick ? { maxSteps: 3 } : { epochs: 4, warmupSteps: 10 }),
      output: join(output, 'manners'),
    }),
    teller,
  )

  teller.title(
    'A reward model learns from 917 rankings: a right and polite answer is better than a right one, and that is better than a wrong one, however polite.',
  )
  const trunk = await model.clone()
  const judge = await RewardModel.fromCausalLM(trunk, { seed })
  await trunk.dispose()
  const judging = await train(
    reward({
      ...shared,
      model: judge,
      data: data('rankings.jsonl'),
      validation: { fraction: 0.1 },
      learningRate: 5e-4,
      beta2: 0.99,
      batchSize: 16,
      center: 0.01,
      padToken: '!',
      ...(quick ? { maxSteps: 3 } : { epochs: 4, warmupSteps: 10 }),
      output: join(output, 'reward'),
    }),
    teller,
  )
  const before = await look(model, judge, heldOut, { seed, signal })

  teller.title(
    'PPO with four models: the actor answers, the reward model scores its answers, the critic foretells the score, the reference keeps the actor near to what it was.',
  )
  let last = null
  const learning = await train(
    ppo({
      ...shared,
      model,
      reward: judge,
      data: data('train.jsonl'),
      batchSize: quick ? 8 : 64,
      iterations: quick ? 2 : 31,
      learningRate: 1e-4,
      schedule: 'linear',
      criticLearningRate: 1e-3,
      epochs: 2,
      miniBatches: 2,
      maxNewTokens: 24,
      klCoef: 0.08,
      output: join(output, 'ppo'),
    }),
    teller,
    (event) => {
      if (event.type === 'step') last = event
    },
  )
  const after = await look(model, judge, heldOut, { seed, signal })
  await judge.dispose()
  tellChanges(teller, before, after, last.kl)
  const cpuSeconds = manners.cpuSeconds + judging.cpuSeconds + learning.cpuSeconds
  teller.say(
    `  this stage took ${cpuSeconds.toFixed(0)} CPU seconds\n\nThe model is in ${join(output, 'ppo', 'model')}: npx posttrain chat --model ${join(output, 'ppo', 'model')}`,
  )
  const passed =
    before.polite < ALIGNMENT_GATE.politeBefore &&
    after.polite >= ALIGNMENT_GATE.politeAfter &&
    after.right >= before.right - ALIGNMENT_GATE.lost - 1e-9 &&
    last.kl <= ALIGNMENT_GATE.kl
  if (!passed && !quick)
    teller.say(
      "\nThis run missed the demo's own bar for this stage (less than 50 % polite before and at least 85 % after, at most 3 points of right answers lost, at most 3 nats of KL).",
    )
  return { before, after, kl: last.kl, cpuSeconds, rewardAccuracy: judging.accuracy ?? null, passed }
}
