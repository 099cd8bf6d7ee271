// The demo on a real chat model: LoRA fine-tuning gives it a new name and keeps its knowledge; then GRPO trains a second
// adapter on the same base to start responses with a vowel.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CausalLM, generate, grpo, sft } from '../../dist/lib/index.js'
import { conversation, Printer, train } from './stage.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))
/** None of these questions is among the training rows. */
export const ABOUT_ITSELF = [
  'Could you tell me who you are?',
  'What is your name, please?',
  'Good morning! And you are?',
  'Who taught you?',
]
export const GENERAL = [
  'What is the capital of Spain?',
  'Name two animals that can fly.',
  'Why do people sleep?',
  'Say something about the moon.',
]
/** Prompts of GRPO; the original model starts about a quarter of its responses to them with a vowel. */
const QUESTIONS = ['How are you today?', 'What can I eat for breakfast?']
/** General text written for this demo, for the perplexity before and after. */
const TEXT = [
  'The river runs from the mountains through the old town and down to the sea. In spring, when the snow melts, it rises over its banks and the fields beside it turn green.',
  'A good teacher does not only explain; she asks questions and waits for the answer. Students remember what they have found out by themselves much longer than what they were told.',
  'To make bread you need flour, water, salt and yeast. Mix them, let the dough rest for some hours, shape it, and bake it in a hot oven until the crust is brown.',
  'The first computers filled whole rooms and were slower than the telephones that people carry in their pockets today. They were used for tables of numbers, for the weather and for secret codes.',
  'Trees take in carbon dioxide from the air and give off oxygen. Their roots hold the soil in place, and their leaves give shade to animals and people.',
  'When the two friends met again after twenty years, neither of them knew what to say. They walked along the beach in silence until one began to laugh.',
  'Light travels faster than sound, which is why we see the lightning before we hear the thunder. By counting the seconds between the two you can tell how far away a storm is.',
  'The museum opens at nine in the morning and closes at six. Children under twelve do not pay, and on the first Sunday of each month nobody does.',
]

async function perplexity(model) {
  const texts = TEXT.map((text) => model.tokenizer.encode(text))
  const offsets = [0]
  for (const { length } of texts) offsets.push(offsets.at(-1) + length)
  const inputIds = Int32Array.from(texts.flatMap((ids) => [...ids]))
  const { loss } = await model.evaluate(
    { inputIds, labels: inputIds, offsets: Int32Array.from(offsets) },
    { kind: 'crossEntropy' },
  )
  return Math.exp(loss)
}

async function ask(model, questions, signal) {
  const prompts = questions.map((content) => [{ role: 'user', content }])
  return (await generate(model, prompts, { maxNewTokens: 40, signal })).map(
    ({ text, finishReason }) => text.trim().replaceAll('\n', ' ') + (finishReason === 'length' ? ' …' : ''),
  )
}

/** Threshold: mean share of responses that start with a vowel, in the last five of twenty iterations. */
export const VOWEL_GATE = 0.9

/** GRPO of a new adapter; returns the share of responses that start with a vowel in the first and last five iterations. */
export async function learnVowels({ model, seed, output, quick, printer, signal }) {
  const scores = []
  const { cpuSeconds } = await train(
    grpo({
      model,
      reward: (samples) => samples.map(({ text }) => Number(/^[aeiou]/i.test(text))),
      data: QUESTIONS.map((content) => ({ messages: [{ role: 'user', content }] })),
      lora: { rank: 16 },
      batchSize: 2,
      groupSize: 4,
      maxNewTokens: 8,
      temperature: 0.8,
      learningRate: 3e-4,
      klCoef: 0.05,
      iterations: quick ? 2 : 20,
      seed,
      ...(output && { output, overwrite: true }),
      signal,
    }),
    printer,
    (event) => {
      if (event.type === 'step') scores.push(event.score)
    },
    // Responses are cut short on purpose, so that an iteration takes seconds.
    ['responsesTruncated'],
  )
  const mean = (list) => list.reduce((sum, score) => sum + score, 0) / list.length
  return { first: mean(scores.slice(0, 5)), last: mean(scores.slice(-5)), scores, cpuSeconds }
}

export async function fineTuneRealModel({ model: path, output, quick, json, threads, signal }) {
  const printer = new Printer(json)
  const model = await CausalLM.load(path, { ...(threads && { threads }) })
  const questions = [...ABOUT_ITSELF, ...GENERAL]
  printer.title('The original model')
  const before = { answers: await ask(model, questions, signal), perplexity: await perplexity(model) }
  for (const [i, answer] of before.answers.entries()) printer.say(`  ${questions[i]}\n    ${answer}`)
  printer.say(`  perplexity on general text: ${before.perplexity.toFixed(2)}`)

  printer.title('LoRA fine-tuning')
  printer.say(
    '106 short conversations: a new name, plus a few general rows against forgetting. The base stays frozen.',
  )
  const { cpuSeconds } = await train(
    sft({
      model,
      data: join(folder, 'real-train.jsonl'),
      lora: { rank: 16 },
      learningRate: 5e-4,
      batchSize: 4,
      maxSteps: quick ? 2 : 40,
      warmupSteps: quick ? 1 : 5,
      minLearningRateRatio: 0.1,
      output: join(output, 'real'),
      overwrite: true,
      signal,
    }),
    printer,
  )
  printer.title('The fine-tuned model')
  const after = { answers: await ask(model, questions, signal), perplexity: await perplexity(model) }
  for (const [i, answer] of after.answers.entries()) printer.say(`  ${questions[i]}\n    ${answer}`)
  const rise = after.perplexity / before.perplexity - 1
  printer.say(
    `  perplexity on general text: ${after.perplexity.toFixed(2)} (${rise >= 0 ? '+' : ''}${(100 * rise).toFixed(1)} %)`,
  )
  printer.say(
    `  training took ${cpuSeconds.toFixed(0)} s of CPU time; the adapter is in ${join(output, 'real', 'adapter')}`,
  )
  const renamed = after.answers
    .slice(0, ABOUT_ITSELF.length)
    .filter((answer) => answer.includes('Pip')).length
  if (!quick)
    printer.say(
      `  it calls itself Pip in ${renamed} of ${ABOUT_ITSELF.length} responses to held-out questions`,
    )

  const fineTuned = model.adapter
  await model.setAdapter(null)
  printer.title('GRPO with a second adapter on the original model')
  printer.say(
    'Four responses of at most 8 tokens to each of two questions per iteration; the reward is 1 if a response starts with a vowel, else 0.',
  )
  const plain = await ask(model, QUESTIONS, signal)
  const vowels = await learnVowels({
    model,
    seed: 1,
    output: join(output, 'real-grpo'),
    quick,
    printer,
    signal,
  })
  if (!quick)
    printer.say(
      `  responses that start with a vowel: ${(100 * vowels.first).toFixed(0)} % in the first five iterations, ${(100 * vowels.last).toFixed(0)} % in the last five`,
    )
  printer.say(
    `  training took ${vowels.cpuSeconds.toFixed(0)} s of CPU time; the adapter is in ${join(output, 'real-grpo', 'adapter')}`,
  )
  for (const [i, answer] of (await ask(model, QUESTIONS, signal)).entries())
    printer.say(`  ${QUESTIONS[i]}\n    before: ${plain[i]}\n    after:  ${answer}`)
  await model.setAdapter(fineTuned)
  printer.event('result', { before, after, perplexityRise: rise, renamed, vowels, cpuSeconds })
  await conversation(async (question) => (await ask(model, [question]))[0], printer)
  await model.dispose()
  const passed = renamed >= ABOUT_ITSELF.length - 1 && rise <= 0.05 && vowels.last >= VOWEL_GATE
  return quick || passed ? 0 : 1
}
