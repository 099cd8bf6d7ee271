// The demo on a real chat model: with LoRA it gets a new name and keeps what it knew; then GRPO teaches it a whim in a second
// adapter on the same weights.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CausalLM, generate, grpo, sft } from '../../dist/lib/index.js'
import { conversation, Teller, train } from './stage.mjs'

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
/** What is asked in the reinforcement learning: the model as it came begins about a quarter of its answers with a vowel. */
const QUESTIONS = ['How are you today?', 'What can I eat for breakfast?']
/** General text of our own, for the perplexity before and after. */
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

/** Share of answers with a vowel first that the last five of the twenty rounds have on average. */
export const WHIM_GATE = 0.9

/** GRPO of a new adapter; the share of answers with a vowel first in the first and the last five rounds. */
export async function learnWhim({ model, seed, output, quick, teller, signal }) {
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
    teller,
    (event) => {
      if (event.type === 'step') scores.push(event.score)
    },
    // The answers are cut on purpose: a round takes seconds.
    ['responsesTruncated'],
  )
  const mean = (list) => list.reduce((sum, score) => sum + score, 0) / list.length
  return { first: mean(scores.slice(0, 5)), last: mean(scores.slice(-5)), scores, cpuSeconds }
}

export async function retrainRealModel({ model: path, output, quick, json, threads, signal }) {
  const teller = new Teller(json)
  const model = await CausalLM.load(path, { ...(threads && { threads }) })
  const questions = [...ABOUT_ITSELF, ...GENERAL]
  teller.title('The model as it came')
  const before = { answers: await ask(model, questions, signal), perplexity: await perplexity(model) }
  for (const [i, answer] of before.answers.entries()) teller.say(`  ${questions[i]}\n    ${answer}`)
  teller.say(`  perplexity on general text: ${before.perplexity.toFixed(2)}`)

  teller.title(
    'Fine-tuning with LoRA on 106 short conversations: a new name, and a few general rows against forgetting; its own weights stay as they are',
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
    teller,
  )
  teller.title('The model now')
  const after = { answers: await ask(model, questions, signal), perplexity: await perplexity(model) }
  for (const [i, answer] of after.answers.entries()) teller.say(`  ${questions[i]}\n    ${answer}`)
  const rise = after.perplexity / before.perplexity - 1
  teller.say(
    `  perplexity on general text: ${after.perplexity.toFixed(2)} (${rise >= 0 ? '+' : ''}${(100 * rise).toFixed(1)} %)`,
  )
  teller.say(
    `  training took ${cpuSeconds.toFixed(0)} CPU seconds; the adapter is in ${join(output, 'real', 'adapter')}`,
  )
  const renamed = after.answers
    .slice(0, ABOUT_ITSELF.length)
    .filter((answer) => answer.includes('Pip')).length
  if (!quick)
    teller.say(
      `  it calls itself Pip in ${renamed} of ${ABOUT_ITSELF.length} answers to questions it was not trained on word by word`,
    )

  const fineTuned = model.adapter
  await model.setAdapter(null)
  teller.title(
    'Reinforcement learning (GRPO) of a second adapter, from the model as it came: four answers to each of two questions at a time, cut after 8 tokens, and those that start with a vowel are better',
  )
  const plain = await ask(model, QUESTIONS, signal)
  const vowels = await learnWhim({
    model,
    seed: 1,
    output: join(output, 'real-grpo'),
    quick,
    teller,
    signal,
  })
  if (!quick)
    teller.say(
      `  answers that start with a vowel: ${(100 * vowels.first).toFixed(0)} % in the first five rounds, ${(100 * vowels.last).toFixed(0)} % in the last five`,
    )
  teller.say(
    `  training took ${vowels.cpuSeconds.toFixed(0)} CPU seconds; the adapter is in ${join(output, 'real-grpo', 'adapter')}`,
  )
  for (const [i, answer] of (await ask(model, QUESTIONS, signal)).entries())
    teller.say(`  ${QUESTIONS[i]}\n    before: ${plain[i]}\n    now: ${answer}`)
  await model.setAdapter(fineTuned)
  teller.event('result', { before, after, perplexityRise: rise, renamed, vowels, cpuSeconds })
  await conversation(async (question) => (await ask(model, [question]))[0], teller)
  await model.dispose()
  const passed = renamed >= ABOUT_ITSELF.length - 1 && rise <= 0.05 && vowels.last >= WHIM_GATE
  return quick || passed ? 0 : 1
}
