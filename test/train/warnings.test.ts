import { readFileSync } from 'node:fs'
import test from 'ava'
import {
  type EvaluationBase,
  type StepBase,
  WARNING_CODES,
  type WarningCode,
  type WarningEvent,
} from '../../lib/train/run/events.js'
import {
  PolicyWatch,
  type PolicyWatchOptions,
  SupervisedWatch,
  type WatchedIteration,
  type WatchState,
} from '../../lib/train/run/warnings.js'

/** Noise that is the same in every run of the tests, roughly normal with deviation 1. */
function noise(seed: number): () => number {
  let state = seed * 2654435761 + 1
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  return () => Array.from({ length: 12 }, uniform).reduce((sum, value) => sum + value, -6)
}

const codes = (warnings: readonly WarningEvent[]) => warnings.map(({ code }) => code)

const ITERATION: WatchedIteration = {
  type: 'step',
  step: 0,
  epoch: 1,
  loss: 0,
  gradNorm: 1,
  learningRate: 1e-5,
  tokens: 1000,
  tokensPerSecond: 1000,
  score: 0,
  scoreBySource: {},
  reward: 0,
  kl: 0,
  klCoef: 0.05,
  entropy: 1,
  policyLoss: 0,
  approxKl: 0,
  clipFraction: 0,
  ratioMean: 1,
  ratioVariance: 0,
  responseLength: 40,
  stoppedFraction: 1,
  distinctFraction: 1,
  logProbGap: 0,
  updates: 4,
  seconds: { rollout: 1, score: 1, update: 1 },
}

/** What is said of a run, its state going through JSON after each iteration as a resume does. */
function policyRun(
  count: number,
  iteration: (i: number) => Partial<WatchedIteration>,
  options: Partial<PolicyWatchOptions> = {},
): WarningEvent[] {
  let state: WatchState = PolicyWatch.start
  const seen: WarningEvent[] = []
  for (let step = 1; step <= count; step++) {
    const watch = new PolicyWatch(state, { maxNewTokens: 64, stops: true, ...options })
    seen.push(...watch.see({ ...ITERATION, step, ...iteration(step) }))
    state = JSON.parse(JSON.stringify(watch.state))
  }
  return seen
}

/** The same of a supervised run with an evaluation after each step that has one. */
function supervisedRun(
  count: number,
  step: (i: number) => Partial<StepBase & { chosenLogProb: number; chosenLength: number }>,
  validation: (i: number) => number | undefined = () => undefined,
): WarningEvent[] {
  let state: WatchState = SupervisedWatch.start
  const seen: WarningEvent[] = []
  const base = { type: 'step', epoch: 1, loss: 1, gradNorm: 1, learningRate: 1e-4, tokens: 1 } as const
  for (let i = 1; i <= count; i++) {
    const watch = new SupervisedWatch(state)
    seen.push(...watch.step({ ...base, tokensPerSecond: 1, step: i, ...step(i) }, count))
    const loss = validation(i)
    const evaluation: EvaluationBase = { type: 'evaluation', step: i, epoch: 1, loss: loss ?? 0, best: false }
    if (loss !== undefined) seen.push(...watch.evaluation(evaluation))
    state = JSON.parse(JSON.stringify(watch.state))
  }
  return seen
}

test('a healthy run of PPO, GRPO or DPO gives no warning, whatever its noise', (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const draw = noise(seed)
    const rising = (i: number) => ({
      score: -1 + i / 50 + 0.3 * draw(),
      kl: Math.max(0, 6 * (1 - Math.exp(-i / 40)) + 0.5 * draw()),
      entropy: 0.3 + 0.7 * Math.exp(-i / 60) + 0.05 * draw(),
      responseLength: 40 + 5 * draw(),
      stoppedFraction: 0.9 + 0.03 * draw(),
      valueClipFraction: Math.abs(0.1 * draw()),
    })
    t.deepEqual(codes(policyRun(150, rising, { valueClip: 0.2 })), [], `PPO ${seed}`)
    const groups = (i: number) => ({
      ...rising(i),
      withoutSpread: Math.min(1, Math.max(0, 0.6 + 0.3 * draw())),
      scoreSpread: 0.3,
    })
    t.deepEqual(codes(policyRun(150, groups)), [], `GRPO ${seed}`)
    const pairs = (i: number) => ({
      loss: 0.45 + 0.24 * Math.exp(-i / 80) + 0.05 * draw(),
      // Fifteen nats over responses of some 250 tokens, as is common.
      chosenLogProb: -285 - (15 * i) / 200 + 30 * draw(),
      chosenLength: 250 + 20 * draw(),
    })
    t.deepEqual(codes(supervisedRun(200, pairs)), [], `DPO ${seed}`)
  }
})

test('fine-tuning that gains a little under the noise of its batches is not called flat', (t) => {
  let said = 0
  for (let seed = 1; seed <= 50; seed++) {
    const draw = noise(seed)
    // From 1.30 to 1.15 at once, then a plateau; batches of 8 rows differ by 12 %.
    const loss = (i: number) => (i < 15 ? 1.3 - i / 100 : 1.15) * (1 + 0.12 * draw())
    said += supervisedRun(400, (i) => ({ loss: loss(i) })).length
  }
  t.true(said <= 5, `${said} of 50`)
  t.deepEqual(
    supervisedRun(30, () => ({ loss: 1 })),
    [],
    'too short to tell',
  )
})

test('lossNotFalling: a flat loss and a rising one, said once, not while the learning rate rises', (t) => {
  let said = 0
  for (let seed = 1; seed <= 50; seed++) {
    const draw = noise(seed)
    const warnings = supervisedRun(500, () => ({ loss: 2.3 * (1 + 0.1 * draw()) }))
    t.true(warnings.length <= 1)
    said += warnings.length
  }
  t.true(said >= 35, `${said} of 50`)

  const rising = supervisedRun(100, (i) => ({ loss: 1 + i / 100 }))
  t.deepEqual(codes(rising), ['lossNotFalling'])
  t.is(rising[0]!.step, 60)
  t.regex(rising[0]!.message, /1\.\d+ over the last 20 steps, 1\.\d+ over the first 10; try a learning rate/)

  const warmUp = (i: number) => ({ loss: i < 500 ? 2 : 1, learningRate: Math.min(1, i / 500) })
  t.deepEqual(supervisedRun(1000, warmUp), [])
  // What is learned already has nothing to fall.
  t.deepEqual(
    supervisedRun(1000, () => ({ loss: 0.01 })),
    [],
  )
  const skipped = { reason: 'nonFiniteLoss' as const, rows: [] }
  t.deepEqual(
    supervisedRun(100, () => ({ loss: Number.NaN, skipped })),
    [],
  )
})

test('validationRises: two rises in a row while the training loss falls, and not the ups and downs of a plateau', (t) => {
  const falling = (i: number) => ({ loss: 2 / i })
  const each = (losses: number[]) => (i: number) => (i % 4 === 0 ? losses[i / 4 - 1] : undefined)
  const seen = supervisedRun(20, falling, each([1.2, 1.25, 1.35, 1.5, 1.7]))
  t.deepEqual(codes(seen), ['validationRises'])
  t.is(seen[0]!.step, 12)
  t.regex(seen[0]!.message, /\(1\.200, 1\.250, 1\.350\) while the training loss falls/)
  t.deepEqual(supervisedRun(20, falling, each([1.2, 1.1, 1.0, 0.95, 0.94])), [])
  t.deepEqual(supervisedRun(20, falling, each([1.2, 1.201, 1.203, 1.202, 1.204])), [])
  t.deepEqual(
    supervisedRun(20, () => ({ loss: 1 }), each([1.2, 1.25, 1.35, 1.5, 1.7])),
    [],
  )
})

test('chosenFalls: by nats a token, so the length of the responses and beta say nothing', (t) => {
  for (const length of [10, 500]) {
    const chosen = (perToken: number) => (i: number) => ({
      loss: Math.exp(-i / 20),
      chosenLogProb: (-1 - (perToken * i) / 60) * length,
      chosenLength: length,
    })
    const seen = supervisedRun(60, chosen(1))
    t.deepEqual(codes(seen), ['chosenFalls'])
    t.regex(seen[0]!.message, /by 0\.3\d nats per token.*sftCoef/)
    t.deepEqual(supervisedRun(60, chosen(0.2)), [])
  }
})

const policyCases: {
  code: WarningCode
  message: RegExp
  at: number
  bad: (i: number) => Partial<WatchedIteration>
  /** Looks much like it and is in order. */
  good: Record<string, (i: number) => Partial<WatchedIteration>>
  options?: Partial<PolicyWatchOptions>
}[] = [
  {
    code: 'klExplodes',
    message: /nats of KL per response while the score rises; read some samples/,
    at: 10,
    bad: (i) => ({ score: i, kl: 3 * i }),
    good: {
      'held at the target': (i) => ({ score: i, kl: Math.min(8, i) }),
      'long answers': (i) => ({ kl: Math.min(90, i), responseLength: 500 }),
      'far away from the first iteration on, and no further': () => ({ kl: 12 }),
      'no reference': () => ({ kl: undefined as never }),
    },
  },
  {
    code: 'responsesShrink',
    message: /17\.5 tokens on average, 37\.5 at the start/,
    at: 10,
    bad: (i) => ({ responseLength: i > 5 ? 17.5 : 37.5 }),
    good: {
      'a little': (i) => ({ responseLength: i > 5 ? 25 : 40 }),
      'as they learn to end': (i) => ({ responseLength: i > 5 ? 20 : 64, stoppedFraction: i > 4 ? 1 : 0.3 }),
    },
  },
  {
    code: 'responsesTruncated',
    message: /truncated at maxNewTokens \(64\)/,
    at: 5,
    bad: () => ({ stoppedFraction: 0.1 }),
    good: {
      'one good iteration in five': (i) => ({ stoppedFraction: i % 5 === 0 ? 0.6 : 0.3 }),
      'most end': () => ({ stoppedFraction: 0.55 }),
    },
  },
  {
    code: 'entropyCollapse',
    message: /collapses: 0\.050 nats per token, 1\.000 at the start/,
    at: 10,
    bad: (i) => ({ entropy: i > 5 ? 0.05 : 1 }),
    good: {
      'by half': (i) => ({ entropy: i > 5 ? 0.5 : 1 }),
      'sure from the start': () => ({ entropy: 0.05 }),
    },
  },
  {
    code: 'noSpread',
    message: /nothing to learn: the task is too easy or too hard/,
    at: 5,
    bad: () => ({ withoutSpread: 1, scoreSpread: 0 }),
    good: {
      'one group in an iteration': () => ({ withoutSpread: 0.9, scoreSpread: 0.1 }),
      'PPO has no groups': () => ({ score: 1 }),
    },
  },
  {
    code: 'valueClip',
    message: /mean 20\.0\).*valueClip 0\.2.*scoreNormalize/,
    at: 5,
    bad: () => ({ score: 20, valueClipFraction: 0.5 }),
    good: {
      'the critic is there already': () => ({ score: 20, valueClipFraction: 0.01 }),
      'scores near 1': () => ({ score: 1, valueClipFraction: 0.5 }),
      'one outlier': (i) => ({ score: i === 3 ? 20 : 1, valueClipFraction: 0.5 }),
    },
    options: { valueClip: 0.2 },
  },
]
for (const { code, message, at, bad, good, options } of policyCases) {
  test(`${code}: said once, when it has lasted, and not of what looks like it`, (t) => {
    const seen = policyRun(40, bad, options)
    t.deepEqual(codes(seen), [code])
    t.regex(seen[0]!.message, message)
    t.is(seen[0]!.step, at)
    for (const [name, iteration] of Object.entries(good))
      t.deepEqual(codes(policyRun(40, iteration, options)), [], name)
  })
}

test('the page of troubles names each code', (t) => {
  const page = readFileSync(new URL('../../../docs/troubles.md', import.meta.url), 'utf8')
  const named = [...page.matchAll(/^Code: `(\w+)`$/gm)].map(([, code]) => code!)
  t.deepEqual(named.toSorted(), [...WARNING_CODES].toSorted())
})

test('responses that have become nearly empty are told even where the first ones ran into the limit', (t) => {
  const seen = policyRun(20, (i) => ({ responseLength: i > 5 ? 2 : 64, stoppedFraction: i > 4 ? 1 : 0.3 }))
  t.deepEqual(codes(seen), ['responsesShrink'])
})

test('noSpread: where the KL alone makes rewards differ, and at the end of a task that is learned', (t) => {
  const alone = policyRun(10, () => ({ withoutSpread: 0, scoreSpread: 0 }))
  t.deepEqual(codes(alone), ['noSpread'])
  const learnt = policyRun(40, (i) => ({ withoutSpread: i > 20 ? 1 : 0.2, scoreSpread: i > 20 ? 0 : 0.4 }))
  t.deepEqual(codes(learnt), ['noSpread'])
  t.is(learnt[0]!.step, 25)
  t.regex(learnt[0]!.message, /nothing to learn any more/)
})

test('without a stop token that alone is told, and not that every response is cut', (t) => {
  const options = { maxNewTokens: 64, stops: false }
  t.deepEqual(codes(new PolicyWatch(PolicyWatch.start, options).begin(0)), ['noStopToken'])
  t.deepEqual(new PolicyWatch(PolicyWatch.start, { ...options, stops: true }).begin(0), [])
  t.deepEqual(
    policyRun(20, () => ({ stoppedFraction: 0 }), options),
    [],
  )
})

test('scores that something else keeps near 0 may be far: no valueClip is given then', (t) => {
  t.deepEqual(
    policyRun(20, () => ({ score: 20, valueClipFraction: 0.5 })),
    [],
  )
})
