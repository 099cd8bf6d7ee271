// Adapters of more than linear layers, in whole runs: embedding, output projection, copies and biases.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type CausalLM, dpo, grpo, ppo, RewardModel, type Run, sft } from '../../lib/index.js'
import { readTensors } from '../helpers/fixtures.js'
import { rankings } from '../helpers/preference-runs.js'
import { cleanFolder } from '../helpers/scratch.js'
import { tinyPolicy, wished, wishes } from '../helpers/tiny-policy.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

const LORA = {
  rank: 2,
  targetModules: ['embed_tokens', 'lm_head', 'q_proj'],
  rankPattern: { lm_head: 3 },
  modulesToSave: ['v_proj', 'norm'],
}
const TIED = { rank: 2, targetModules: ['q_proj'], modulesToSave: ['lm_head'], ensureWeightTying: true }

interface Given {
  model: CausalLM
  output: string
  resume?: boolean
}
type Started = Run<never, never, unknown>

const shared = { learningRate: 1e-2, weightDecay: 0.1, seed: 4, checkpoints: { everySteps: 1 } }
const rolled = {
  ...shared,
  ...{ data: wishes, batchSize: 3, maxNewTokens: 5, iterations: 4 },
  reward: [{ reward: wished, name: 'wish' }],
} as const
const RUNS: Record<string, { create: () => Promise<CausalLM>; start: (given: Given) => unknown }> = {
  sft: {
    create: tinyModel,
    start: (given) =>
      sft({
        ...{ ...shared, ...given, data: instructionRows(8), template: 'plain' },
        ...{ maxSteps: 4, batchSize: 4, maxLength: 64, lora: { ...LORA, dropout: 0.3 } },
      }),
  },
  'sft of a tied pair': {
    create: tinyModel,
    start: (given) =>
      sft({
        ...{ ...shared, ...given, data: instructionRows(8), template: 'plain' },
        ...{ maxSteps: 4, batchSize: 4, maxLength: 64, lora: TIED },
      }),
  },
  dpo: {
    create: tinyModel,
    start: (given) =>
      dpo({
        ...{ ...shared, ...given, data: rankings(8), template: 'plain' },
        ...{ maxSteps: 4, batchSize: 4, maxLength: 64, lora: LORA },
      }),
  },
  ppo: { create: tinyPolicy, start: (given) => ppo({ ...rolled, ...given, lora: LORA } as never) },
  grpo: {
    create: tinyPolicy,
    start: (given) => grpo({ ...rolled, ...given, groupSize: 3, klCoef: 0.1, lora: TIED } as never),
  },
}

/** Bytes of the adapters that a run leaves, and its numbers without times. */
function leftBy(output: string) {
  const files = ['adapter', 'critic'].map((name) => join(output, name, 'adapter_model.safetensors'))
  const metrics = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n')
  return {
    numbers: metrics
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ type }) => type === 'step')
      .map(({ tokensPerSecond: _, seconds: __, ...step }) => step),
    bytes: files.filter(existsSync).map((file) => readFileSync(file).toString('base64')),
  }
}

for (const [name, { create, start }] of Object.entries(RUNS)) {
  test(`${name}: stopped and resumed, the adapter is the same bits, and the base never changes`, async (t) => {
    const run = async (output: string, options: { stopAt?: number; resume?: boolean } = {}) => {
      await using model = await create()
      const before = await weightsOf(model)
      const given = { model, output, ...(options.resume && { resume: true }) }
      const running = start(given) as Started
      for await (const event of running as AsyncIterable<{ type: string; step?: number }>)
        if (event.type === 'step' && event.step === options.stopAt) running.stop()
      const after = await weightsOf(model)
      for (const [parameter, values] of before) t.deepEqual(after.get(parameter), values, parameter)
    }
    const [whole, parts] = [cleanFolder(t), cleanFolder(t)]
    await run(whole)
    await run(parts, { stopAt: 2 })
    await run(parts, { resume: true })
    const expected = leftBy(whole)
    t.is(expected.numbers.length, 4)
    t.deepEqual(leftBy(parts), expected)
    if (name !== 'ppo' && name !== 'grpo') return
    // The policy starts as its reference, whose embedding is the base's.
    const kls = expected.numbers.map(({ kl }) => Math.abs(kl as number))
    t.true(kls[0]! < 1e-5 && kls.at(-1)! > 1e-4, kls.join())
  })
}

test('the critic of an adapter with an output projection has none, and is saved as a reward model', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyPolicy()
  const running = RUNS.ppo!.start({ model, output }) as Started
  await running.finish()
  const keys = [...readTensors(join(output, 'critic/adapter_model.safetensors')).keys()]
  t.false(keys.some((key) => key.includes('lm_head')))
  t.true(keys.some((key) => key.includes('embed_tokens.lora_embedding_A')))
  await using base = await tinyPolicy()
  await using critic = await RewardModel.fromCausalLM(base, { seed: null })
  await critic.loadAdapter('critic', join(output, 'critic'))
  t.true((await critic.scores([Int32Array.of(1, 2, 3)])).every(Number.isFinite))
})
