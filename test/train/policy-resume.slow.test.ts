import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type CausalLM, grpo, ppo, RewardModel, type Run, rloo } from '../../lib/index.js'
import type { RewardSample } from '../../lib/rollout/rewards.js'
import type { PolicyStepEvent, TrainEvent } from '../../lib/train/run/events.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { eventsOf, only } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { numbersOf, tinyPolicy, type Wish, wished, wishes } from '../helpers/tiny-policy.js'
import { weightsOf } from '../helpers/tiny-training.js'

type Event = TrainEvent<PolicyStepEvent, never, unknown>
type Judge = (samples: readonly RewardSample<Wish>[]) => number[]

/** What a resume may say anew. */
interface Given {
  output: string
  resume?: boolean
  signal?: AbortSignal
  judge?: Judge
}

/** Five prompts of seven an iteration: the third one goes on into the second pass. */
const shared = {
  data: wishes,
  batchSize: 5,
  maxNewTokens: 6,
  iterations: 5,
  learningRate: 3e-3,
  schedule: 'linear',
  epochs: 2,
  miniBatches: 2,
  seed: 4,
  samples: { count: 2, everySteps: 2 },
  checkpoints: { everySteps: 2 },
} as const
/** All that PPO carries from one iteration to the next. */
const carried = {
  kl: { target: 0.05, horizon: 20 },
  scoreNormalize: true,
  criticWarmup: 1,
} as const

type Start = (model: CausalLM, given: Given) => Promise<Run<PolicyStepEvent, never, unknown>>
const CASES: Record<string, Start> = {
  'ppo with models of their own': async (model, { judge = wished, ...given }) =>
    ppo<Wish>({ ...shared, ...carried, ...given, model, reward: [{ reward: judge, name: 'wish' }] }) as never,
  'ppo on one base': async (model, { judge = wished, ...given }) => {
    const reward = await RewardModel.fromCausalLM(model, { seed: 5 })
    const both = [{ reward }, { reward: judge, weight: 0.5, name: 'wish' }]
    return ppo<Wish>({ ...shared, ...carried, ...given, model, reward: both, lora: { rank: 2 } }) as never
  },
  grpo: async (model, { judge = wished, ...given }) =>
    grpo<Wish>({
      ...shared,
      ...given,
      model,
      reward: [{ reward: judge, name: 'wish' }],
      groupSize: 3,
      klCoef: 0.1,
    }) as never,
  'rloo on one base': async (model, { judge = wished, ...given }) =>
    rloo<Wish>({
      ...shared,
      ...given,
      model,
      reward: [{ reward: judge, name: 'wish' }],
      groupSize: 3,
      lora: { rank: 2 },
    }) as never,
}

const results = ['model/model.safetensors', 'adapter/adapter_model.safetensors']
/** What a run leaves: its metrics, and the bytes of what it trained. */
function leftBy(output: string) {
  const bytes = [...results, ...results.map((name) => name.replace(/^\w+/, 'critic'))]
    .filter((name) => existsSync(join(output, name)))
    .map((name) => [name, readFileSync(join(output, name)).toString('base64')])
  const metrics = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n')
  return { numbers: numbersOf(metrics.map((line) => JSON.parse(line) as Event)), bytes }
}

async function run(
  start: Start,
  given: Given,
  until?: (event: Event, run: Run<never, never, unknown>) => unknown,
) {
  await using model = await tinyPolicy(1)
  const started = await start(model, given)
  const events: Event[] = []
  for await (const event of started) {
    events.push(event)
    if ((await until?.(event, started as never)) === 'break') break
  }
  return events
}

const wholes = new Map<string, Promise<ReturnType<typeof leftBy>>>()
function whole(t: ExecutionContext, name: string) {
  const known = wholes.get(name)
  if (known) return known
  const made = (async () => {
    const output = cleanFolder(t)
    await run(CASES[name]!, { output })
    return leftBy(output)
  })()
  wholes.set(name, made)
  return made
}

for (const [name, start] of Object.entries(CASES)) {
  test(`${name}: stopped after any iteration and resumed, it is the same run bit for bit`, async (t) => {
    const expected = await whole(t, name)
    t.is(expected.bytes.length, name.startsWith('ppo') ? 2 : 1)
    const steps = expected.numbers.filter((event) => (event as Event).type === 'step')
    t.is(steps.length, 5)
    t.is(expected.numbers.filter((event) => (event as Event).type === 'sample').length, 4)
    for (const at of [1, 2, 4]) {
      const output = cleanFolder(t)
      const before = await run(start, { output }, (event, run) => {
        if (event.type === 'step' && event.step === at) run.stop()
      })
      t.like(before.at(-1), { type: 'end', reason: 'stopped', steps: at })
      const after = await run(start, { output, resume: true })
      t.is(only(after, 'step').length, 5 - at)
      t.deepEqual([...numbersOf(before), ...numbersOf(after)], expected.numbers, `stopped at ${at}`)
      t.deepEqual(leftBy(output), expected)
    }
  })

  test(`${name}: aborted while it asks for rewards, it goes on from its checkpoint`, async (t) => {
    const expected = await whole(t, name)
    const output = cleanFolder(t)
    const abort = new AbortController()
    let asked = 0
    const judge: Judge = (samples) => {
      if (++asked === 4) abort.abort('enough')
      return wished(samples)
    }
    const error = await t.throwsAsync(run(start, { output, signal: abort.signal, judge }))
    t.is(error?.name, 'AbortError')
    t.is(error?.cause, 'enough')
    const after = await run(start, { output, resume: true })
    t.is(only(after, 'step')[0]?.step, 3)
    t.deepEqual(leftBy(output), expected)
  })
}

test('what is carried over is not nothing: the KL coefficient moves, the scores have a history', async (t) => {
  const { numbers } = await whole(t, 'ppo with models of their own')
  const coefficients = numbers.flatMap((event) => (event as { klCoef?: number }).klCoef ?? [])
  t.is(new Set(coefficients).size, 5)
})

test('saved between an iteration and its samples, and left: the resume tells them', async (t) => {
  const name = 'grpo'
  const expected = await whole(t, name)
  for (const where of ['step', 'sample']) {
    const output = cleanFolder(t)
    await run(CASES[name]!, { output }, async (event, run) => {
      if (!('step' in event && event.type === where && event.step === 2)) return undefined
      await run.save()
      return 'break'
    })
    await run(CASES[name]!, { output, resume: true })
    t.deepEqual(leftBy(output), expected, where)
  }
})

test('a save() before the last events of a run are told is followed by the checkpoint of its end', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyPolicy(1)
  const running = grpo<Wish>({
    ...shared,
    output,
    model,
    reward: wished,
    groupSize: 2,
    iterations: 1,
    samples: { everySteps: 1 },
  })
  for await (const event of running) if (event.type === 'step') await running.save()
  const manifest = readFileSync(join(output, 'checkpoints', 'step-1', 'manifest.json'), 'utf8')
  t.like(JSON.parse(manifest), { state: { step: 1, settled: 1, pending: [] } })
})

test('a resume with the trained model in place of the one it began with is refused', async (t) => {
  const output = cleanFolder(t)
  const options = { ...shared, ...carried, output, reward: wished } as const
  await using model = await tinyPolicy(1)
  await ppo<Wish>({ ...options, model, iterations: 2 }).finish()
  await t.throwsAsync(ppo<Wish>({ ...options, model, resume: true }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /the reference, or the base under the adapter, is another model/,
  })
})

test('a resume with another reward model is refused, and nothing is changed', async (t) => {
  const output = cleanFolder(t)
  const begin = async (seed: number, more: object) => {
    await using model = await tinyPolicy(1)
    await using judge = await RewardModel.fromCausalLM(await tinyPolicy(seed), { seed })
    const before = await weightsOf(model)
    const running = ppo<Wish>({ ...shared, output, model, reward: judge, iterations: 2, ...more }).finish()
    const refused = await running.then(
      () => null,
      (error: Error) => error.message,
    )
    if (refused !== null) t.deepEqual(await weightsOf(model), before)
    return refused
  }
  t.is(await begin(3, {}), null)
  t.regex((await begin(4, { resume: true })) ?? '', /a reward model gives other scores/)
  t.is(await begin(3, { resume: true, iterations: 3 }), null)
})

test('a resume may have more iterations, and no other passes', async (t) => {
  const output = cleanFolder(t)
  const options = { ...shared, output, reward: wished, schedule: 'constant' } as const
  const begin = async (more: object) => {
    await using model = await tinyPolicy(1)
    return await eventsOf(grpo<Wish>({ ...options, iterations: 1, groupSize: 2, ...more, model }))
  }
  await begin({})
  await t.throwsAsync(begin({ resume: true, epochs: 3 }), { message: /option epochs was 2 and is 3 now/ })
  const longer = await begin({ resume: true, iterations: 3 })
  t.deepEqual(
    only(longer, 'step').map(({ step }) => step),
    [2, 3],
  )
  t.is(only(longer, 'warning')[0]?.code, 'resumeDiffers')
})

test('posttrain ppo, killed and resumed in another process', async (t) => {
  const output = cleanFolder(t)
  const parent = dirname(output)
  const [folder, data, judge] = [
    join(parent, 'policy'),
    join(parent, 'rows.jsonl'),
    join(parent, 'judge.mjs'),
  ]
  await using model = await tinyPolicy(1)
  await model.save(folder)
  mkdirSync(parent, { recursive: true })
  writeFileSync(data, wishes.map((row) => JSON.stringify(row)).join('\n'))
  writeFileSync(
    judge,
    'export default (samples) => samples.map(({ text, row }) => text.split(row.wish).length)',
  )
  const argv = (to: string) =>
    ['ppo', '--model', folder, '--data', data, '--reward', judge, '--output', to, '--threads', '1', '--json']
      .concat('--iterations 6 --batch-size 4 --max-new-tokens 6 --learning-rate 3e-3 --epochs 2'.split(' '))
      .concat('--kl-target 0.1 --kl-horizon 20 --score-normalize --checkpoints-every-steps 1'.split(' '))
  const undisturbed = join(parent, 'whole')
  const uninterrupted = await posttrain(argv(undisturbed))
  t.is(uninterrupted.code, 0, uninterrupted.stderr)
  t.is(eventsIn(uninterrupted.stdout).filter(({ type }) => type === 'step').length, 6)
  const killed = await posttrain(argv(output), (line, child) => {
    const event = JSON.parse(line) as { type: string; step: number }
    if (event.type === 'step' && event.step === 3) child.kill('SIGKILL')
  })
  t.is(killed.signal, 'SIGKILL')
  const resumed = await posttrain([...argv(output), '--resume'])
  t.is(resumed.code, 0, resumed.stderr)
  const first = eventsIn(resumed.stdout).find(({ type }) => type === 'step')
  t.true((first?.step as number) > 1, `${first?.step}`)
  t.deepEqual(leftBy(output), leftBy(undisturbed))
})
