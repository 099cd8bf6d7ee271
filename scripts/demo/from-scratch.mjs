// The main demo: pre-training from random weights, supervised fine-tuning and RLHF, in about three minutes.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CausalLM, plainTemplate, pretrain, sft, Tokenizer } from '../../dist/lib/index.js'
import { alignWithFeedback } from './alignment.mjs'
import { conversation, Printer, respond, train } from './stage.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))
export const rowsOf = (name) =>
  readFileSync(join(folder, name), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

export const CONFIG = {
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
export const TRAINING = {
  learningRate: 2e-3,
  beta2: 0.99,
  batchSize: 16,
  minLearningRateRatio: 0.05,
  maxLength: 256,
}
/** Thresholds: exact match on all held-out rows and on each task, and CPU seconds of training. */
export const GATE = { all: 0.97, task: 0.85, cpuSeconds: 120 }

export async function exactMatch(model, rows, signal) {
  const responses = await respond(
    model,
    rows.map((row) => plainTemplate.prompt(row)),
    { maxNewTokens: 24, signal },
  )
  const tasks = {}
  for (const [i, { text, stopped }] of responses.entries()) {
    tasks[rows[i].task] ??= { right: 0, rows: 0 }
    const task = tasks[rows[i].task]
    task.rows++
    task.right += Number(stopped && text === rows[i].output)
  }
  const right = Object.values(tasks).reduce((sum, task) => sum + task.right, 0)
  return { right, rows: rows.length, tasks, stopped: responses.filter(({ stopped }) => stopped).length }
}

const percent = ({ right, rows }) => `${((100 * right) / rows).toFixed(1)} % (${right} of ${rows})`

function printResults(printer, { before, after, sums, cpuSeconds }) {
  printer.title('Results on held-out questions')
  printer.say('They rephrase facts of the training data; none of the questions occurs in it.')
  printer.say(`  exact match before fine-tuning     ${percent(before)}`)
  printer.say(`  exact match after                  ${percent(after)}`)
  for (const [task, result] of Object.entries(after.tasks))
    printer.say(`    ${task.padEnd(10)}${percent(result)}`)
  printer.say(`  responses that end by themselves   ${percent({ right: after.stopped, rows: after.rows })}`)
  printer.say(`  sums absent from the training data ${percent(sums)} (not required)`)
  printer.say(`  training took ${cpuSeconds.toFixed(0)} s of CPU time`)
}

export async function learnFromScratch({ output, quick, json, threads, signal }) {
  const printer = new Printer(json)
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

  printer.title('Stage 1: pre-training')
  printer.say(
    `A model with ${(parameters / 1e6).toFixed(1)} million random weights learns to predict the next token of plain text.`,
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
    printer,
  )
  const asked = `User: ${question}\n`
  const [continued] = await respond(model, [asked], { maxNewTokens: 24, signal })
  printer.say(
    `The model has learned to continue text, not to answer questions. It continues ${JSON.stringify(asked)} with\n  ${JSON.stringify(continued.text)}`,
  )
  printer.event('continuation', { prompt: asked, text: continued.text })
  const before = await exactMatch(model, heldOut, signal)

  printer.title('Stage 2: supervised fine-tuning (SFT)')
  printer.say('918 instructions in Chinese and English. Prompts are masked: only responses are trained.')
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
    printer,
  )
  const after = await exactMatch(model, heldOut, signal)
  const sums = await exactMatch(model, unseen, signal)
  const cpuSeconds = reading.cpuSeconds + tuning.cpuSeconds

  printResults(printer, { before, after, sums, cpuSeconds })
  const taught = ['1加1等于几?', '天空是什么颜色的?', '这只猫叫什么名字?', 'What colour is snow?']
  const responses = await respond(
    model,
    taught.map((instruction) => plainTemplate.prompt({ instruction })),
    { maxNewTokens: 24, signal },
  )
  for (const [i, { text }] of responses.entries()) printer.say(`  ${taught[i]}  ->  ${text}`)
  printer.say(
    `\nModel saved in ${join(output, 'sft', 'model')}; to chat with it: npx posttrain chat --model ${join(output, 'sft', 'model')}`,
  )
  const taughtWell =
    after.right / after.rows >= GATE.all &&
    Object.values(after.tasks).every(({ right, rows }) => right / rows >= GATE.task) &&
    cpuSeconds <= GATE.cpuSeconds
  if (!taughtWell && !quick)
    printer.say(
      `\nStages 1 and 2 missed the demo's thresholds (exact match ${100 * GATE.all} % overall, ${100 * GATE.task} % on each task; ${GATE.cpuSeconds} s of CPU time).`,
    )
  const alignment = await alignWithFeedback({ model, heldOut, output, quick, printer, signal })
  const passed = taughtWell && alignment.passed
  printer.event('result', {
    before,
    after,
    unseenSums: sums,
    cpuSeconds,
    answers: Object.fromEntries(responses.map(({ text }, i) => [taught[i], text])),
    alignment,
    passed,
  })
  await conversation(
    async (instruction) =>
      (await respond(model, [plainTemplate.prompt({ instruction })], { maxNewTokens: 24 }))[0].text,
    printer,
  )
  await model.dispose()
  return passed || quick ? 0 : 1
}
