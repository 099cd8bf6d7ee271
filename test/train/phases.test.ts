import test from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { dpo } from '../../lib/train/dpo.js'
import { grpo } from '../../lib/train/grpo.js'
import type { RunPhase } from '../../lib/train/run/run.js'
import { policyConfig, tinyPolicy, tokenizer, wished, wishes } from '../helpers/tiny-policy.js'

/** Phases of a run in order, seen whenever the event loop is free. */
async function phasesOf(run: { readonly phase: RunPhase; finish(): Promise<unknown> }): Promise<RunPhase[]> {
  const seen: RunPhase[] = []
  let isOver = false
  const watching = (async () => {
    while (!isOver) {
      if (seen.at(-1) !== run.phase) seen.push(run.phase)
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  try {
    await run.finish()
  } finally {
    isOver = true
    await watching
  }
  return seen
}

test('GRPO tells when it samples, scores and updates', async (t) => {
  await using model = await tinyPolicy()
  const during: RunPhase[] = []
  const run = grpo({
    model,
    data: wishes,
    batchSize: 4,
    groupSize: 4,
    maxNewTokens: 8,
    iterations: 2,
    reward: async (samples) => {
      during.push(run.phase)
      // The event loop is free while the reward is computed.
      await new Promise((resolve) => setTimeout(resolve, 20))
      return wished(samples)
    },
  })
  const phases = await phasesOf(run)
  t.deepEqual(during, ['scoring', 'scoring'])
  const first = phases.indexOf('rollout')
  t.true(first >= 0 && phases.indexOf('scoring') > first)
  t.true(phases.lastIndexOf('training') > phases.lastIndexOf('scoring'))
})

test('DPO of all weights tells when it computes the log-probabilities of its reference', async (t) => {
  await using model = await CausalLM.create(policyConfig, { seed: 1, tokenizer, device: 'cpu' })
  // Many passes of the reference, between which the event loop is free.
  const data = Array.from({ length: 96 }, (_, i) => ({
    prompt: 'abcdefgh'[i % 8]!.repeat(1 + (i >> 3)),
    chosen: 'ab',
    rejected: 'c',
  }))
  const phases = await phasesOf(dpo({ model, data, template: 'none', maxSteps: 2 }))
  t.true(phases.indexOf('reference') > phases.indexOf('reading'))
  t.true(phases.indexOf('training') > phases.indexOf('reference'))
})
