import type { Response } from '../../lib/rollout/rollout.js'
import { fixture, readJson, readTensors } from './fixtures.js'

type Numbers = Record<string, number>

interface Recipe {
  options: Numbers
  metrics: Numbers
  /** Relative error of the whole update in float32, by the same code as the truth. */
  float32: Numbers
}

/** What scripts/dev/fixtures/policy.py wrote. */
export interface PolicyFixture {
  prompts: number[][]
  answers: number[][]
  stopped: boolean[]
  scores: number[]
  groupSize: number
  orders: number[][]
  head: number[]
  ppo: Recipe
  grpo: Recipe
  rloo: Recipe
}

export const policyFixture = readJson<PolicyFixture>(fixture('policy', 'expected.json'))

/** What each parameter moved by. */
export const movedBy = (name: string) => readTensors(fixture('policy', `${name}.safetensors`))

/** A response as a rollout gives it, its sampled log-probabilities unknown. */
export function response(
  promptIds: readonly number[],
  tokenIds: readonly number[],
  stopped: boolean,
): Response {
  const row = { prompt: `${promptIds}` }
  return {
    prompt: {
      promptIds: Int32Array.from(promptIds),
      prompt: row.prompt,
      messages: null,
      row,
      origin: 'test:1',
    },
    tokenIds: Int32Array.from(tokenIds),
    sampledLogProbs: new Float32Array(tokenIds.length),
    text: '',
    stopped,
  }
}

/** The fixed responses, a group to each prompt. */
export const responses = policyFixture.answers.map((answer, i) =>
  response(
    policyFixture.prompts[Math.floor(i / policyFixture.groupSize)]!,
    answer,
    policyFixture.stopped[i]!,
  ),
)
