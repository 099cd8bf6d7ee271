// Prompts that wait for a place among those that are decoded.
import test from 'ava'
import { CausalLM, type Completion, generate, grpo, stream } from '../../lib/index.js'
import { loadHooks } from '../bindings/hooks.js'
import { close } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'
import { eventsOf, lossesOf } from '../helpers/run.js'
import { tinyModel } from '../helpers/tiny-training.js'

let model: CausalLM
let hooks: Awaited<ReturnType<typeof loadHooks>>['hooks']
test.before(async () => {
  hooks = (await loadHooks()).hooks
  model = await CausalLM.load(fixture('models', 'llama'))
})
test.after.always(() => model?.dispose())

/** Texts of 1 to 40 characters. */
const prompts = Array.from({ length: 13 }, (_, i) => 'abc def 12'.repeat(4).slice(i, i + 1 + ((i * 17) % 40)))
/** A token that ends about every tenth row at each step. */
const STOPS = [3, 11, 17, 25, 40, 51]
const sampled = { maxNewTokens: 20, temperature: 1.3, seed: 7, stopIds: STOPS, logProbs: true }

function same(
  t: Parameters<typeof close>[0],
  rows: readonly Completion[],
  expected: readonly Completion[],
  what: string,
) {
  for (const [i, row] of rows.entries()) {
    t.deepEqual([...row.tokenIds], [...expected[i]!.tokenIds], `${what}, row ${i}`)
    t.is(row.finishReason, expected[i]!.finishReason)
    close(t, row.logProbs!, expected[i]!.logProbs!, { absolute: 1e-4 }, what)
  }
}

test('prompts that wait are completed as all at once, however many places there are', async (t) => {
  const together = await generate(model, prompts, sampled)
  t.true(new Set(together.map(({ tokenIds }) => tokenIds.length)).size > 4, 'rows end at different steps')
  for (const batchSize of [1, 2, 3, 8, 12, 13])
    same(t, await generate(model, prompts, { ...sampled, batchSize }), together, `${batchSize} places`)
})

test.serial('a row that takes the place of another reads nothing of it', async (t) => {
  const together = await generate(model, prompts, sampled)
  hooks.poison(true)
  t.teardown(() => hooks.poison(false))
  same(t, await generate(model, prompts, { ...sampled, batchSize: 3 }), together, 'poisoned')
})

test('no more prompts are begun than there are places, and the next when one has ended', async (t) => {
  const begun = new Set<number>()
  const ended = new Set<number>()
  for await (const { index, finishReason } of stream(model, prompts, { ...sampled, batchSize: 3 })) {
    begun.add(index)
    if (finishReason !== undefined) ended.add(index)
    t.true(begun.size - ended.size <= 3, `${begun.size} begun, ${ended.size} ended`)
  }
  t.is(ended.size, prompts.length)
})

test('a stop text ends a row early, and its place is taken', async (t) => {
  const options = {
    maxNewTokens: 20,
    temperature: 1.3,
    seed: 7,
    stopIds: [],
    stop: ['e', '1'],
    logProbs: true,
  }
  const together = await generate(model, prompts, options)
  same(t, await generate(model, prompts, { ...options, batchSize: 2 }), together, 'stop texts')
})

test('a policy that samples some responses at once learns what it learns from all at once', async (t) => {
  const learned = async (rolloutBatchSize?: number) => {
    await using policy = await tinyModel()
    const run = grpo({
      model: policy,
      data: Array.from({ length: 4 }, (_, i) => ({ prompt: `count ${i}` })),
      reward: (samples) => samples.map(({ text }) => text.length % 5),
      template: 'none',
      groupSize: 4,
      batchSize: 2,
      maxNewTokens: 8,
      iterations: 2,
      ...(rolloutBatchSize && { rolloutBatchSize }),
    })
    return lossesOf(await eventsOf(run))
  }
  const all = await learned()
  close(t, await learned(3), all, { absolute: 1e-4 }, 'losses')
})

test('batchSize of 0 is refused', async (t) => {
  await t.throwsAsync(generate(model, ['abc'], { batchSize: 0 }), { code: 'ERR_INVALID_ARGUMENT' })
})
