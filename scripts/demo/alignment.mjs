// Stage 3, RLHF: people prefer polite answers, as long as they are correct. A reward model learns this from rankings, and
// PPO with its four models trains the language model on its scores.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generate, plainTemplate, ppo, RewardModel, reward, sft } from '../../dist/lib/index.js'
import { train } from './stage.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))
const POLITE = /(，谢谢!|, thanks!)$/
const plain = (text) => text.replace(POLITE, '')

/** Thresholds: share of polite responses sampled at temperature 1, loss of accuracy of greedy ones, KL in nats. */
export const ALIGNMENT_GATE = { politeBefore: 0.5, politeAfter: 0.85, lost: 0.03, kl: 3 }

/** Responses sampled for each held-out question. */
const DRAWS = 4

/** Accuracy of greedy responses to the held-out questions; politeness and mean score of sampled ones. */
async function evaluate(model, judge, rows, { seed, signal }) {
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

/** Prints scores, politeness, accuracy and two responses before and after. */
function printChanges(printer, before, after, kl) {
  const percent = (value) => `${(100 * value).toFixed(1)} %`
  printer.title('Before and after RLHF')
  printer.say('                                         before    after')
  const line = (name, of) => printer.say(`  ${name.padEnd(38)} ${of(before).padEnd(9)} ${of(after)}`)
  line('mean score of the reward model', ({ score }) => score.toFixed(2))
  line('polite responses', ({ polite }) => percent(polite))
  line('correct on held-out questions', ({ right }) => percent(right))
  printer.say(`  KL to the reference                    ${''.padEnd(9)} ${kl.toFixed(2)} nats per response`)
  for (const i of [0, 1]) {
    printer.say(`  ${before.samples[i].prompt}`)
    printer.say(`    before: ${before.samples[i].text}`)
    printer.say(`    after:  ${after.samples[i].text}`)
  }
}

/** Aligns `model`; returns its evaluation before and after, and whether it meets the thresholds. */
export async function alignWithFeedback({ model, heldOut, output, quick, printer, signal, seed = 1 }) {
  const data = (name) => join(folder, name)
  const shared = { template: 'plain', overwrite: true, seed, signal }

  printer.title('Stage 3: RLHF')
  printer.say(
    'First, SFT on answers of which every third is polite, so that the model can answer either way.',
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
    printer,
  )

  printer.title('Reward model')
  printer.say(
    '917 rankings: a correct, polite answer ranks above a correct one, which ranks above a wrong one, however polite.',
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
    printer,
  )
  const before = await evaluate(model, judge, heldOut, { seed, signal })

  printer.title('PPO')
  printer.say(
    'Four models: the actor responds, the reward model scores its responses, the critic predicts the score, and the reference (the model before PPO) keeps the actor close to it.',
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
    printer,
    (event) => {
      if (event.type === 'step') last = event
    },
  )
  const after = await evaluate(model, judge, heldOut, { seed, signal })
  await judge.dispose()
  printChanges(printer, before, after, last.kl)
  const cpuSeconds = manners.cpuSeconds + judging.cpuSeconds + learning.cpuSeconds
  printer.say(
    `  this stage took ${cpuSeconds.toFixed(0)} s of CPU time\n\nModel saved in ${join(output, 'ppo', 'model')}; to chat with it: npx posttrain chat --model ${join(output, 'ppo', 'model')}`,
  )
  const passed =
    before.polite < ALIGNMENT_GATE.politeBefore &&
    after.polite >= ALIGNMENT_GATE.politeAfter &&
    after.right >= before.right - ALIGNMENT_GATE.lost - 1e-9 &&
    last.kl <= ALIGNMENT_GATE.kl
  if (!passed && !quick)
    printer.say(
      "\nStage 3 missed the demo's thresholds (less than 50 % polite before and at least 85 % after, at most 3 points of accuracy lost, at most 3 nats of KL).",
    )
  return { before, after, kl: last.kl, cpuSeconds, rewardAccuracy: judging.accuracy ?? null, passed }
}
