import type { ExecutionContext } from 'ava'
import type { CausalLM, RewardModel } from '../../lib/index.js'
import type { TrainEvent } from '../../lib/train/run/events.js'
import { close, distance, norm } from './close.js'
import { fixture, readJson, readTensors } from './fixtures.js'
import { eventsOf, stepsOf } from './run.js'

/** Words of some length, so that no pair is like another; chosen ones say yes. */
export function rankings(count: number, from = 0) {
  return Array.from({ length: count }, (_, i) => ({
    prompt: `Q${from + i}:`,
    chosen: ` yes${'!'.repeat(i % 4)}`,
    rejected: ` no ${from + i}`,
  }))
}

/** A ten-step trace of scripts/dev/fixtures/preferences.py. */
export interface Trace {
  options: {
    learningRate: number
    weightDecay: number
    maxGradNorm: number
    schedule: 'linear'
    maxSteps: number
    shuffle: false
  }
  losses: number[]
  gradNorms: number[]
  rows: { prompt: string }[]
  kl?: number[]
  [more: string]: unknown
}

export function openTrace<More = object>(name: string): Trace & More {
  return readJson<Trace & More>(fixture('preferences', `${name}.json`))
}

/**
 * Fails unless a run of the trace's options, rows and steps is torch's: losses within 1e-5, updates within 1e-3 of
 * their size over all parameters together. A key's bias has no true gradient, and is left out.
 */
export async function follows(
  t: ExecutionContext,
  name: string,
  model: CausalLM | RewardModel,
  run: () => AsyncIterable<{ type: string }>,
) {
  const { losses, gradNorms } = openTrace(name)
  const deltas = readTensors(fixture('preferences', `${name}.safetensors`))
  const trained = (await model.parameters()).filter(({ trainable }) => trainable).map((item) => item.name)
  const inFile = (parameter: string) =>
    deltas.has(`delta.${parameter}`) ? `delta.${parameter}` : `delta.base_model.model.${parameter}`
  t.deepEqual(trained.map(inFile).sort(), [...deltas.keys()].sort())
  const read = async () =>
    new Map(
      await Promise.all(
        trained.map(async (parameter) => [parameter, (await model.getParameter(parameter)).values] as const),
      ),
    )
  const before = await read()
  const steps = stepsOf((await eventsOf(run())) as TrainEvent[])
  close(
    t,
    steps.map(({ loss }) => loss),
    losses,
    { absolute: 1e-5 },
    `${name} loss`,
  )
  close(
    t,
    steps.map(({ gradNorm }) => gradNorm),
    gradNorms,
    { relative: 1e-3 },
    `${name} gradient norm`,
  )
  let [off, all] = [0, 0]
  for (const [parameter, values] of await read()) {
    if (parameter.endsWith('k_proj.bias')) continue
    const start = before.get(parameter)!
    const delta = deltas.get(inFile(parameter))!.values
    off +=
      distance(
        values.map((value, i) => value - start[i]!),
        delta,
      ) ** 2
    all += norm(delta) ** 2
  }
  const relative = Math.sqrt(off / all)
  t.log(`${name}: the update is off by ${relative.toExponential(1)}`)
  t.true(relative <= 1e-3, `the update is off by ${relative}`)
  return steps
}
