import { AdamW, type CausalLM, RewardModel } from '../../lib/index.js'
import { resolveOptions } from '../../lib/options/validate.js'
import type { Response } from '../../lib/rollout/rollout.js'
import { groupIteration, grpoMethod, rlooMethod } from '../../lib/train/grpo.js'
import { grpoOptions, rlooOptions } from '../../lib/train/options/group.js'
import { ppoOptions } from '../../lib/train/options/ppo.js'
import { type Experience, experienceOf } from '../../lib/train/policy/experience.js'
import { ppoIteration } from '../../lib/train/ppo.js'
import { response } from './policy-fixture.js'
import { idsOf, tinyPolicy } from './tiny-policy.js'
import { weightsOf } from './tiny-training.js'

/** `prompt>response`, a point at the end for `<eos>`. */
export function answered(text: string): Response {
  const [prompt, answer] = text.split('>') as [string, string]
  return response(idsOf(prompt), idsOf(answer), answer.endsWith('.'))
}

/** One lesson: fixed responses and their scores. */
export interface Lesson {
  answers: string[]
  scores: number[]
  learningRate?: number
  iteration?: number
  klCoef?: number
  withModel?: boolean
  /** Changes what is known of the rollout, such as the policy that drew it. */
  known?: (experience: Experience) => void
  /** As in a run: what is carried from one iteration to the next. */
  state?: { scores: { count: number; mean: number; squares: number } }
}

type Options = Record<string, unknown>

/** Where a run stands when it is learned from a lesson. */
function progressOf({ iteration = 0, learningRate = 0, state }: Lesson, { klCoef }: { klCoef: number }) {
  return { iteration, learningRate, klCoef, scores: state?.scores ?? { count: 0, mean: 0, squares: 0 } }
}

/** A policy, another one as its reference, and a critic of its trunk whose values are all 0. */
export class Classroom implements AsyncDisposable {
  readonly model: CausalLM
  readonly reference: CausalLM
  readonly critic: RewardModel
  readonly #optimizers: AdamW[] = []

  private constructor(model: CausalLM, reference: CausalLM, critic: RewardModel) {
    this.model = model
    this.reference = reference
    this.critic = critic
  }

  static async open(): Promise<Classroom> {
    const model = await tinyPolicy(1)
    const trunk = await model.clone()
    const critic = await RewardModel.fromCausalLM(trunk, { seed: null })
    await trunk.dispose()
    return new Classroom(model, await tinyPolicy(2), critic)
  }

  async #experience(lesson: Lesson, temperature: number): Promise<Experience> {
    const total = Float64Array.from(lesson.scores)
    const experience = await experienceOf(
      this,
      { responses: lesson.answers.map(answered), scores: { total, bySource: {} } },
      { batchTokens: 4096, temperature },
    )
    lesson.known?.(experience)
    return experience
  }

  #optimizer(of: CausalLM | RewardModel): AdamW {
    const optimizer = new AdamW(of, { learningRate: 0, weightDecay: 0 })
    this.#optimizers.push(optimizer)
    return optimizer
  }

  /** The options of the recipe, checked; nothing that they name is used here. */
  async ppo(given: Options, lesson: Lesson) {
    const needed = { model: this.model, data: [], reward: () => [] }
    const options = resolveOptions(ppoOptions, { ...needed, ...given })
    const { learn } = ppoIteration(
      {
        model: this.model,
        critic: this.critic,
        reference: this.reference,
        sources: lesson.withModel ? [{ name: 'model', weight: 1, reward: this.critic }] : [],
        actorOptimizer: this.#optimizer(this.model),
        criticOptimizer: this.#optimizer(this.critic),
        criticRatio: 10,
      },
      { ...options, seed: 3 },
    )
    const experience = await this.#experience(lesson, options.temperature)
    return { experience, ...(await learn(experience, progressOf(lesson, options))) }
  }

  async grpo(given: Options, lesson: Lesson) {
    const options = resolveOptions(grpoOptions, { model: this.model, data: [], reward: () => [], ...given })
    return await this.#group(grpoMethod(options), options, lesson)
  }

  async rloo(given: Options, lesson: Lesson) {
    const options = resolveOptions(rlooOptions, { model: this.model, data: [], reward: () => [], ...given })
    return await this.#group(rlooMethod(options), options, lesson)
  }

  async #group(
    method: ReturnType<typeof grpoMethod>,
    options: Parameters<typeof groupIteration>[2],
    lesson: Lesson,
  ) {
    const { model, reference } = this
    const optimizer = this.#optimizer(model)
    const roles = { model, reference, sources: [], optimizer }
    const { learn } = groupIteration(roles, method, { ...options, seed: 3 })
    const experience = await this.#experience(lesson, options.temperature)
    if (method.recipe === 'grpo' && options.klCoef === 0) experience.referenceLogProbs = null
    return { experience, ...(await learn(experience, progressOf(lesson, options))) }
  }

  /** All weights of the policy one behind the other. */
  async weights(): Promise<number[]> {
    return [...(await weightsOf(this.model)).values()].flatMap((values) => [...values])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const optimizer of this.#optimizers) await optimizer.dispose()
    await this.critic.dispose()
    await this.model.dispose()
    await this.reference.dispose()
  }
}
