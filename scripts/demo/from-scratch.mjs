// The main demo: pre-training from nothing, fine-tuning, and learning from judgements, in about three minutes.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CausalLM, plainTemplate, pretrain, sft, Tokenizer } from '../../dist/lib/index.js'
import { alignWithFeedback } from './alignment.mjs'
import { answers, conversation, Teller, train } from './stage.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))
const rowsOf = (name) =>
  readFileSync(join(folder, name), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

const CONFIG = {
  model_type: 'llama',
  vocab_size: 512,
  hidden_size: 192,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
}
const TRAINING = {
  learningRate: 2e-3,
  beta2: 0.99,
  batchSize: 16,
  minLearningRateRatio: 0.05,
  maxLength: 256,
}
/** At least this much of the held-out rows, of all and of each task, and CPU seconds of training at most. */
const GATE = { all: 0.97, task: 0.85, cpuSeconds: 120 }

async function exactMatch(model, rows, signal) {
  const given = await answers(
    model,
    rows.map((row) => plainTemplate.prompt(row)),
    { maxNewTokens: 24, signal },
  )
  const tasks = {}
  for (const [i, { text, stopped }] of given.entries()) {
    tasks[rows[i].task] ??= { right: 0, rows: 0 }
    const task = tasks[rows[i].task]
    task.rows++
    task.right += Number(stopped && text === rows[i].output)
  }
  const right = Object.values(tasks).reduce((sum, task) => sum + task.right, 0)
  return { right, rows: rows.length, tasks, stopped: given.filter(({ stopped }) => stopped).length }
}

const percent = ({ right, rows }) => `${((100 * right) / rows).toFixed(1)} % (${right} of ${rows})`

function tellResults(teller, { before, after, sums, cpuSeconds }) {
  teller.title('What it can do now')
  teller.say(
    'Held-out questions are new phrasings of facts it was taught in other words; no question was seen in training.',
  )
  teller.say(`  exact answers before fine-tuning   ${percent(before)}`)
  teller.say(`  exact answers after                ${percent(after)}`)
  for (const [task, result] of Object.entries(after.tasks))
    teller.say(`    ${task.padEnd(10)}${percent(result)}`)
  teller.say(`  answers that stop by themselves    ${percent({ right: after.stopped, rows: after.rows })}`)
  teller.say(`  sums it never saw in any words     ${percent(sums)} (for interest only)`)
  teller.say(`  training took ${cpuSeconds.toFixed(0)} CPU seconds`)
}

export async function learnFromScratch({ output, quick, json, threads, signal }) {
  const teller = new Teller(json)
  const heldOut = rowsOf('held-out.jsonl')
  const unseen = rowsOf('unseen-sums.jsonl')
  const question = '1加1等于几?'
  const tokenizer = await Tokenizer.load(folder)
  // A model this small gains little from a second thread, and nothing from a GPU.
  const model = await CausalLM.create(CONFIG, { seed: 1, tokenizer, device: 'cpu', threads: threads ?? 1 })
  const parameters = (await model.parameters()).reduce(
    (sum, { shape }) => sum + shape.reduce((n, size) => n * size, 1),
    0,
  )

  teller.title(
    `Stage 1: pre-training. A model of ${(parameters / 1e6).toFixed(1)} million random weights reads plain text.`,
  )
  const reading = await train(
    pretrain({
      ...TRAINING,
      model,
      data: join(folder, 'corpus.jsonl'),
      maxSteps: quick ? 3 : 60,
      warmupSteps: quick ? 1 : 15,
      output: join(output, 'pretrain'),
      overwrite: true,
      signal,
    }),
    teller,
  )
  const asked = `User: ${question}\n`
  const [continued] = await answers(model, [asked], { maxNewTokens: 24, signal })
  teller.say(
    `It has learnt to continue text, not to answer. Asked ${JSON.stringify(asked)} it goes on with\n  ${JSON.stringify(continued.text)}`,
  )
  teller.event('continuation', { prompt: asked, text: continued.text })
  const before = await exactMatch(model, heldOut, signal)

  teller.title(
    'Stage 2: fine-tuning. It learns to answer 918 instructions in Chinese and English; only the answers are trained.',
  )
  const tuning = await train(
    sft({
      ...TRAINING,
      model,
      data: join(folder, 'train.jsonl'),
      template: 'plain',
      maxSteps: quick ? 5 : 1500,
      warmupSteps: quick ? 1 : 30,
      output: join(output, 'sft'),
      overwrite: true,
      signal,
    }),
    teller,
  )
  const after = await exactMatch(model, heldOut, signal)
  const sums = await exactMatch(model, unseen, signal)
  const cpuSeconds = reading.cpuSeconds + tuning.cpuSeconds

  tellResults(teller, { before, after, sums, cpuSeconds })
  const taught = ['1加1等于几?', '天空是什么颜色的?', '这只猫叫什么名字?', 'What colour is snow?']
  const told = await answers(
    model,
    taught.map((instruction) => plainTemplate.prompt({ instruction })),
    { maxNewTokens: 24, signal },
  )
  for (const [i, { text }] of told.entries()) teller.say(`  ${taught[i]}  ->  ${text}`)
  teller.say(
    `\nThe model is in ${join(output, 'sft', 'model')}: npx posttrain chat --model ${join(output, 'sft', 'model')}`,
  )
  const taughtWell =
    after.right / after.rows >= GATE.all &&
    Object.values(after.tasks).every(({ right, rows }) => right / rows >= GATE.task) &&
    cpuSeconds <= GATE.cpuSeconds
  if (!taughtWell && !quick)
    teller.say(
      `\nThese two stages missed the demo's own bar (${100 * GATE.all} % in all, ${100 * GATE.task} % on each task, ${GATE.cpuSeconds} CPU seconds).`,
    )
  const alignment = await alignWithFeedback({ model, heldOut, output, quick, teller, signal })
  const passed = taughtWell && alignment.passed
  teller.event('result', {
    before,
    after,
    unseenSums: sums,
    cpuSeconds,
    answers: Object.fromEntries(told.map(({ text }, i) => [taught[i], text])),
    alignment,
    passed,
  })
  await conversation(
    async (instruction) =>
      (await answers(model, [plainTemplate.prompt({ instruction })], { maxNewTokens: 24 }))[0].text,
    teller,
  )
  await model.dispose()
  return passed || quick ? 0 : 1
}
