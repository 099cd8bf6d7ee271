import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM, RewardModel, Template } from '../../lib/index.js'
import type { RewardOptions } from '../../lib/train/options/options.generated.js'
import { reward } from '../../lib/train/reward.js'
import { close } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'
import { NO_PEFT, peftCheck } from '../helpers/peft.js'
import { follows, openTrace, rankings } from '../helpers/preference-runs.js'
import { eventsOf, lossesOf, numbersOf, stepsOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { tinyModel, weightsOf } from '../helpers/tiny-training.js'

const base = {
  data: rankings(24),
  template: 'none',
  maxLength: 64,
  learningRate: 1e-3,
  batchSize: 4,
} as const satisfies Partial<RewardOptions>

const rankingTrace = (name: string) => {
  const { options, rows, center } = openTrace<{ center: number }>(name)
  return {
    ...options,
    center,
    data: rows as unknown as RewardOptions['data'],
    template: 'none',
    batchSize: 4,
  }
}

test('ten steps with margins and a center are those of transformers and torch', async (t) => {
  await using model = await RewardModel.load(fixture('reward/llama'))
  await follows(t, 'reward', model, () => reward({ ...rankingTrace('reward'), model }))
})

test('ten steps of an adapter and its head are those of PEFT and torch, in two parts of a step as in one', async (t) => {
  for (const [batchSize, gradientAccumulation] of [
    [4, 1],
    [2, 2],
  ] as const) {
    await using plain = await CausalLM.load(fixture('models/llama'))
    await using model = await RewardModel.fromCausalLM(plain, { seed: null })
    await model.loadAdapter('peft', fixture('reward/llama-lora'))
    const options = { ...rankingTrace('reward-lora'), batchSize, gradientAccumulation }
    await follows(t, 'reward-lora', model, () => reward({ ...options, model }))
  }
})

test('a model overfits one batch', async (t) => {
  await using model = await RewardModel.fromCausalLM(await tinyModel())
  const steps = stepsOf(
    await eventsOf(
      reward({ ...base, model, data: rankings(4), maxSteps: 60, learningRate: 3e-3, schedule: 'constant' }),
    ),
  )
  t.true(steps[0]!.loss > 0.3, `${steps[0]!.loss}`)
  t.true(steps.at(-1)!.loss < 0.01, `${steps.at(-1)!.loss}`)
  t.like(steps.at(-1), { accuracy: 1 })
  t.true(steps.at(-1)!.margin > 4)
})

test('a ranking is one step, each of its pairs weighs 1 / C(K, 2), and the metrics are those of the scores', async (t) => {
  await using model = await RewardModel.fromCausalLM(await tinyModel())
  const answers = [' 1', ' 22', ' 3', ' 44']
  const data = [
    { prompt: 'Q:', responses: answers, margin: 0.5 },
    { prompt: 'P:', chosen: ' a', rejected: ' b' },
  ]
  const textOf = (prompt: string, answer: string) =>
    Int32Array.from([...model.tokenizer.encode(prompt + answer), model.tokenizer.eosId!])
  const scores = await model.scores([
    ...answers.map((answer) => textOf('Q:', answer)),
    textOf('P:', ' a'),
    textOf('P:', ' b'),
  ])
  const pairs = [
    ...[0, 1, 2].flatMap((i) => [1, 2, 3].filter((k) => k > i).map((k) => [i, k, 1 / 6, 0.5] as const)),
    [4, 5, 1, 0] as const,
  ]
  t.is(pairs.length, 7)
  const meanOf = (of: (better: number, worse: number, margin: number) => number) =>
    pairs.reduce((sum, [b, w, weight, margin]) => sum + weight * of(scores[b]!, scores[w]!, margin), 0) / 2
  const tight = { absolute: 1e-5 }
  const given = { data, validation: data, center: 0.1, maxSteps: 1, learningRate: 1e-4, shuffle: false }
  const run = reward({ ...base, model, ...given })
  const events = await eventsOf(run)
  const [step] = stepsOf(events)
  const loss = meanOf((b, w, margin) => Math.log1p(Math.exp(margin + w - b)) + 0.1 * (b + w) ** 2)
  close(t, step!.loss, loss, tight, 'loss')
  close(
    t,
    step!.accuracy,
    meanOf((b, w) => Number(b > w)),
    tight,
    'accuracy',
  )
  close(
    t,
    step!.margin,
    meanOf((b, w) => b - w),
    tight,
    'margin',
  )
  close(t, step!.meanReward, scores.reduce((sum, score) => sum + score, 0) / 6, tight, 'mean')
  close(t, [step!.minReward, step!.maxReward], [Math.min(...scores), Math.max(...scores)], tight, 'extremes')
  // The validation rows are the same, and a step later better.
  const evaluation = events.find((event) => event.type === 'evaluation')
  t.true(evaluation!.loss < step!.loss)
  t.like(events[0], { report: { judgements: 2, pairs: 7 } })
})

test('8 prompts in 1, 2 or 4 batches of one step are the same step', async (t) => {
  const data = [
    ...rankings(6),
    { prompt: 'R:', responses: [' 1', ' 2', ' 3'] },
    { prompt: 'S:', responses: [' 1', ' 2', ' 3', ' 4'] },
  ]
  const runs: { losses: number[]; weights: Map<string, Float32Array> }[] = []
  for (const [batchSize, gradientAccumulation] of [
    [8, 1],
    [4, 2],
    [2, 4],
  ] as const) {
    await using plain = await tinyModel()
    await using model = await RewardModel.fromCausalLM(plain)
    const batching = { batchSize, gradientAccumulation, maxSteps: 3, center: 0.01 }
    const events = await eventsOf(reward({ ...base, model, data, ...batching }))
    runs.push({ losses: lossesOf(events), weights: await weightsOf(plain) })
  }
  for (const other of runs.slice(1)) {
    close(t, other.losses, runs[0]!.losses, { absolute: 1e-5 }, 'loss')
    for (const [name, values] of runs[0]!.weights)
      close(t, other.weights.get(name)!, values, { absolute: 1e-5 }, name)
  }
})

for (const lora of [undefined, { rank: 4 }]) {
  const how = lora ? 'an adapter' : 'all weights'
  test(`stopped and resumed: ${how}, head and every number are the same bits`, async (t) => {
    const options = {
      ...base,
      data: rankings(10),
      validation: rankings(3, 50),
      epochs: 2,
      padToken: lora ? undefined : 'a',
      ...(lora && { lora }),
    }
    const run = async (output: string, more: Partial<RewardOptions>, stopAt?: number) => {
      await using model = await tinyModel()
      const events = []
      const running = reward({ ...options, model, output, ...more })
      for await (const event of running) {
        events.push(event)
        if (event.type === 'step' && event.step === stopAt) running.stop()
      }
      return numbersOf(events)
    }
    const file = lora ? 'adapter/adapter_model.safetensors' : 'model/model.safetensors'
    const whole = cleanFolder(t)
    const expected = await run(whole, {})
    t.is(expected.filter(({ type }) => type === 'step').length, 6)
    for (const at of [2, 4]) {
      const output = cleanFolder(t)
      const before = await run(output, {}, at)
      t.deepEqual([...before, ...(await run(output, { resume: true }))], expected)
      t.true(readFileSync(join(output, file)).equals(readFileSync(join(whole, file))))
    }
  })
}

test.serial(
  'saved with its template as sequence classification, or as an adapter with its head, it has equal scores in transformers and PEFT',
  async (t) => {
    const folder = join(cleanFolder(t), 'base')
    await (await tinyModel()).save(folder)
    const output = cleanFolder(t)
    const texts = ['Q1: yes', 'A longer one']
    await using plain = await CausalLM.load(folder)
    const ids = texts.map((text) => Int32Array.from([...plain.tokenizer.encode(text), 256]))
    const lists = ids.map((text) => [...text])
    await using adapted = await CausalLM.load(folder)
    const adapter = cleanFolder(t)
    const given = { ...base, template: 'plain', epochs: 1 } as const
    await reward({ ...given, model: plain, output, padToken: 'Ā' }).finish()
    await reward({ ...given, model: adapted, output: adapter, lora: { rank: 4 } }).finish()
    for (const [path, of] of [
      [join(output, 'model'), { score: join(output, 'model') }],
      [join(adapter, 'adapter'), { score: folder, adapter: join(adapter, 'adapter') }],
    ] as const) {
      await using again = await RewardModel.load(path)
      t.regex(again.chatTemplate ?? '', /User: /)
      const scores = await again.scores(ids)
      t.true(Math.abs(scores[0]! - scores[1]!) > 1e-3)
      const theirs = await peftCheck(of, lists)
      if (theirs === null) t.log(NO_PEFT)
      close(t, theirs?.scores ?? scores, scores, { absolute: 1e-4 }, 'scores')
      close(t, theirs?.padded ?? scores, scores, { absolute: 1e-4 }, 'padded')
    }
  },
)

test('a pad token that rows end with is refused before the training, also where only the template says so', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  const before = await weightsOf(model)
  const code = 'ERR_INVALID_ARGUMENT'
  const run = (more: Partial<RewardOptions>) =>
    reward({ ...base, model, epochs: 1, output, ...more }).finish()
  await t.throwsAsync(run({}), { code, message: /no special token except those that end a response/ })
  await t.throwsAsync(run({ padToken: '<eos>' }), { code, message: /padToken "<eos>" ends a response/ })
  await t.throwsAsync(run({ padToken: '<pad>' }), { code, message: /padToken "<pad>" is not in the vocab/ })
  t.false(existsSync(output))
  t.deepEqual(await weightsOf(model), before)
  t.throws(() => reward({ ...base, model, padToken: 'Ā' }), { code, message: /padToken has no effect/ })
  t.throws(() => reward({ ...base, model, output, lora: {}, padToken: 'Ā' }), {
    code,
    message: /padToken has no effect/,
  })

  // Special, and no end of text: this template ends its responses with it.
  await using judge = await RewardModel.load(fixture('reward/llama'))
  t.is(judge.padFor().token, '<|pad|>')
  const template = Template.fromSource(
    "{% for m in messages %}{{ m.content }}{{ '<|pad|>' if m.role == 'assistant' }}{% endfor %}",
  )
  const data = ['a', 'b'].map((prompt) => ({
    prompt: [{ role: 'user', content: prompt }],
    chosen: 'x',
    rejected: 'y',
  }))
  await t.throwsAsync(run({ model: judge, data, template, padToken: '<|pad|>' }), {
    code,
    message: /"<\|pad\|>" ends a response/,
  })
  t.false(existsSync(output))
})

test('an active adapter is trained further with the head, and a second one on it is refused', async (t) => {
  await using model = await tinyModel()
  const plain = await weightsOf(model)
  await model.addAdapter('sft', { rank: 4 })
  const output = cleanFolder(t)
  const code = 'ERR_INVALID_ARGUMENT'
  await t.throwsAsync(reward({ ...base, model, lora: { rank: 2 } }).finish(), { code, message: /sft in use/ })
  const events = await eventsOf(reward({ ...base, model, maxSteps: 3, output }))
  const [start] = events
  t.true(start?.type === 'start' && start.trainableParameters < 0.5 * start.parameters)
  t.true(existsSync(join(output, 'adapter/adapter_model.safetensors')))
  t.is(model.adapter, 'sft')
  const after = await weightsOf(model)
  for (const [name, values] of plain) t.deepEqual(after.get(name), values, name)
  t.true([...after].some(([name, values]) => name.includes('lora_B') && values.some((value) => value !== 0)))
})

test('weights that are not numbers end the run with the rows, and bad rows with file, line and field', async (t) => {
  await using model = await tinyModel()
  const row = (more: object) => reward({ ...base, model, data: [...rankings(2), more] as never }).finish()
  await t.throwsAsync(row({ prompt: 'P:', chosen: 'a' }), {
    code: 'ERR_DATA',
    message: /^rows:3: rejected is missing/,
  })
  await t.throwsAsync(row({ prompt: 'P:', chosen: 'a', rejected: 'b', margin: Number.NaN }), {
    code: 'ERR_DATA',
    message: /^rows:3: margin must be a finite number/,
  })
  await t.throwsAsync(reward({ ...base, model, maxLength: 5 }).finish(), {
    code: 'ERR_DATA',
    message: /responses too long \(maxLength 5\)/,
  })
  const name = 'model.layers.0.mlp.up_proj.weight'
  const { values } = await model.getParameter(name)
  await model.setParameter(name, values.with(0, Number.NaN))
  await t.throwsAsync(reward({ ...base, model }).finish(), {
    code: 'ERR_NON_FINITE',
    message: /step 3: the loss was not finite in 3 steps.*rows:\d+/,
  })
})
