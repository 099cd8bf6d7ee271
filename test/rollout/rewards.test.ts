import test from 'ava'
import { CausalLM, PosttrainError, RewardModel } from '../../lib/index.js'
import {
  type Reward,
  type RewardContext,
  type RewardFunction,
  type RewardSample,
  rewardSources,
  scoresOf,
} from '../../lib/rollout/rewards.js'
import { answered } from '../helpers/policy-learning.js'
import { policyConfig, tinyPolicy } from '../helpers/tiny-policy.js'
import { characterTokenizer } from '../helpers/tokenizers.js'

const answers = ['ab>cd.', 'e>.', 'g>hhaib'].map(answered)
const options = { timeoutMs: 5000, batchTokens: 8, step: 4 }

async function judged(reward: Reward<never>, more: Partial<Parameters<typeof scoresOf>[2]> = {}) {
  await using policy = await tinyPolicy()
  return await scoresOf(rewardSources(reward, policy), answers, { ...options, ...more })
}
const byLength: RewardFunction = (samples) => samples.map(({ tokenIds }) => tokenIds.length)

test('a function, now or later, a typed array, a reward model, and several with their weights', async (t) => {
  t.deepEqual([...(await judged(byLength)).total], [3, 1, 5])
  t.deepEqual([...(await judged(async (samples) => samples.map((_, i) => i))).total], [0, 1, 2])
  const typed = (() => Float32Array.of(0.5, 1, 2)) as unknown as RewardFunction
  t.deepEqual([...(await judged(typed)).total], [0.5, 1, 2])
  await using policy = await tinyPolicy()
  await using model = await RewardModel.fromCausalLM(policy, { seed: 3 })
  const rows = answers.map(({ prompt, tokenIds }) => ({
    promptIds: prompt.promptIds,
    completionIds: tokenIds,
  }))
  // One by one: its reward does not depend on the rest of the batch.
  const alone: number[] = []
  for (const row of rows) alone.push((await model.scores([row]))[0]!)
  const list = [{ reward: model }, { reward: byLength, weight: -2 }, { reward: model, weight: 0.5 }]
  const { total, bySource } = await scoresOf(rewardSources(list, policy), answers, options)
  t.deepEqual(Object.keys(bySource), ['model', 'byLength', 'model 3'])
  for (const [i, score] of alone.entries()) {
    t.true(Math.abs(score) > 1e-3)
    t.true(Math.abs(bySource.model![i]! - score) < 1e-5)
    t.true(Math.abs(total[i]! - (1.5 * score - 2 * answers[i]!.tokenIds.length)) < 1e-5)
  }
})

test('a sample carries prompt, response, ids, why it ended and the columns of its row', async (t) => {
  let seen: readonly RewardSample[] = []
  await judged((samples) => {
    seen = samples
    return samples.map(() => 0)
  })
  const [first, , last] = answers
  t.deepEqual(seen[0], {
    prompt: first!.prompt.prompt,
    messages: null,
    text: first!.text,
    promptIds: first!.prompt.promptIds,
    tokenIds: first!.tokenIds,
    stopReason: 'stop',
    row: first!.prompt.row,
  })
  t.is(seen[2]?.stopReason, 'length')
  t.is(seen[2]?.row, last!.prompt.row)
})

const fail = (message: string) => {
  throw new Error(message)
}
const thrown = new PosttrainError('ERR_DISPOSED', 'the model was disposed')
const BAD: Record<string, [reward: unknown, says: RegExp]> = {
  'one that throws': [
    function sour() {
      throw new Error('no milk')
    },
    /^reward function sour threw: no milk$/,
  ],
  'one that throws what is no error': [
    () => {
      throw 'milk'
    },
    /^reward function 1 threw: milk$/,
  ],
  'one that rejects': [() => Promise.reject(new Error('late')), /^reward function 1 threw: late$/],
  'one that uses what is gone': [() => Promise.reject(thrown), /^reward function 1 threw: the model was/],
  'one that throws what has no text': [
    () => {
      throw Object.create(null)
    },
    /^reward function 1 threw: an object without a text$/,
  ],
  'one that throws an error whose message throws': [
    () => {
      throw Object.defineProperty(new Error(), 'message', {
        get() {
          throw 1
        },
      })
    },
    /^reward function 1 threw: an object without a text$/,
  ],
  'one that throws a long text': [
    () => {
      throw 'm'.repeat(1e6)
    },
    /^reward function 1 threw: m{1000}\.\.\.$/,
  ],
  'one that returns a list that throws': [
    () => new Proxy([1, 2, 3], { get: (list, key) => (key === '1' ? fail('mine') : Reflect.get(list, key)) }),
    /^reward function 1 returned a list that throws: mine$/,
  ],
  'a list without end': [
    () => {
      const list: number[] = []
      list.length = 2 ** 32 - 1
      return list
    },
    /returned 4294967295 values for 3 samples/,
  ],
  'fewer values than samples before it took some': [
    (samples: unknown[]) => {
      samples.pop()
      return [1, 2]
    },
    /returned 2 values for 3 samples/,
  ],
  'promises, one of which fails': [
    () => [Promise.resolve(1), Promise.reject(new Error('unseen')), 3],
    /returned a list of promises: await Promise\.all/,
  ],
  'too few values': [() => [1, 2], /returned 2 values for 3 samples/],
  'too many values': [() => [1, 2, 3, 4], /returned 4 values for 3 samples/],
  'no list': [() => 7, /returned number, expected a list of 3 numbers/],
  nothing: [() => undefined, /returned undefined, expected a list/],
  NaN: [() => [1, Number.NaN, 3], /returned NaN \(number\) for sample 1: rewards must be finite numbers/],
  infinity: [() => [1, 2, Number.POSITIVE_INFINITY], /returned Infinity \(number\) for sample 2/],
  'a text': [() => ['1', 2, 3], /returned "1" \(string\) for sample 0/],
  'null alone': [() => [null, null, null], /^no reward judged any of the 3 responses of iteration 4/],
  'a big integer': [() => [1n, 2, 3], /returned 1n \(bigint\) for sample 0/],
  'an object without a text': [
    () => [Object.create(null), 2, 3],
    /returned an object \(object\) for sample 0/,
  ],
  // biome-ignore lint/suspicious/noSparseArray: that is the point
  'a hole': [() => [1, , 3], /returned undefined \(undefined\) for sample 1/],
}

for (const [what, [reward, says]] of Object.entries(BAD)) {
  test(`rewards that cannot be used: ${what}`, async (t) => {
    const error = await t.throwsAsync(judged(reward as RewardFunction), {
      code: 'ERR_INVALID_ARGUMENT',
      message: says,
    })
    t.true(error instanceof PosttrainError)
    t.is(error?.cause !== undefined, what.startsWith('one that'))
  })
}

test('a function that hangs fails after rewardTimeoutMs, and an abort ends the wait', async (t) => {
  const hangs: RewardFunction = () => new Promise(() => undefined)
  await t.throwsAsync(judged([{ reward: hangs, name: 'slow judge' }], { timeoutMs: 20 }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: 'reward function slow judge did not return within 20 ms (rewardTimeoutMs)',
  })
  const abort = new AbortController()
  const waits: RewardFunction = () => {
    setImmediate(() => abort.abort('enough'))
    return new Promise(() => undefined)
  }
  const error = await t.throwsAsync(judged(waits, { signal: abort.signal }))
  t.is(error?.name, 'AbortError')
  t.is(error?.cause, 'enough')
  // What it throws because of the abort is the abort.
  const again = new AbortController()
  const quits: RewardFunction = async () => {
    again.abort()
    throw new Error('fetch failed')
  }
  t.is((await t.throwsAsync(judged(quits, { signal: again.signal })))?.name, 'AbortError')
})

test('a function is told the iteration, and its signal is aborted with the run and at the time limit', async (t) => {
  let seen: RewardContext | null = null
  await judged((samples, context) => {
    seen = context
    return samples.map(() => 0)
  })
  t.is(seen!.step, 4)
  t.false(seen!.signal.aborted)
  const reasons: unknown[] = []
  const hangs: RewardFunction = (_, { signal }) =>
    new Promise(() => signal.addEventListener('abort', () => reasons.push(signal.reason)))
  await t.throwsAsync(judged(hangs, { timeoutMs: 20 }))
  t.regex(String(reasons[0]), /did not return within 20 ms/)
  const abort = new AbortController()
  setTimeout(() => abort.abort('enough'), 10)
  await t.throwsAsync(judged(hangs, { signal: abort.signal }))
  t.is(reasons[1], 'enough')
})

test('null is no judgment: the other sources decide, and where all are null there is no score', async (t) => {
  const a: RewardFunction = () => [1, null, null]
  const b: RewardFunction = async () => [10, 20, null]
  const { total, bySource } = await judged([{ reward: a }, { reward: b, weight: 0.5 }])
  t.deepEqual([...total], [6, 10, Number.NaN])
  t.deepEqual([...bySource.a!], [1, Number.NaN, Number.NaN])
  t.deepEqual([...bySource.b!], [10, 20, Number.NaN])
})

test('a failure after the time is over goes unnoticed', async (t) => {
  let fail: (error: Error) => void = () => undefined
  const late: RewardFunction = () =>
    new Promise((_, reject) => {
      fail = reject
    })
  await t.throwsAsync(judged(late, { timeoutMs: 5 }), { message: /within 5 ms/ })
  fail(new Error('too late'))
  await new Promise((resolve) => setImmediate(resolve))
  t.pass()
})

test('a reward model with other tokens is refused, one with the same is not', async (t) => {
  await using policy = await tinyPolicy()
  const other = characterTokenizer('ihgfedcba')
  await using stranger = await CausalLM.create(policyConfig, { tokenizer: other })
  await using reward = await RewardModel.fromCausalLM(stranger)
  t.throws(() => rewardSources([{ reward, name: 'taste' }], policy), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /^taste has another tokenizer than the trained model/,
  })
  await using sibling = await CausalLM.create(policyConfig, { tokenizer: characterTokenizer('abcdefghi') })
  await using known = await RewardModel.fromCausalLM(sibling)
  t.is(rewardSources(known, policy)[0]?.name, 'model')
})

test('an invalid reward is refused before anything runs', async (t) => {
  await using policy = await tinyPolicy()
  for (const [reward, says] of [
    [[], /must not be empty/],
    [[{ reward: byLength, weight: Number.NaN }], /weight of byLength must be a finite number/],
    [[{ reward: 'judge' }], /must be a RewardModel or a function/],
    [policy, /must be a RewardModel or a function/],
  ] as const) {
    t.throws(() => rewardSources(reward as never, policy), { code: 'ERR_INVALID_ARGUMENT', message: says })
  }
})
