import { AdamW, type CausalLM, RewardModel } from '../../lib/index.js'
import { resolveOptions } from '../../lib/options/validate.js'
import type { Response } from '../../lib/rollout/rollout.js'
import { grpoOptions, rlooOptions } from '../../lib/train/options/group.js'
import { ppoOptions } from '../../lib/train/options/ppo.js'
import { type Experience, experienceOf } from '../../lib/train/policy/experience.js'
import { groupLearning, grpoMethod, rlooMethod } from '../../lib/train/policy/group.js'
import { ppoLearning } from '../../lib/train/policy/ppo.js'
import { response } from './policy-fixture.js'
import { idsOf, tinyPolicy } from './tiny-policy.js'
import { weightsOf } from './tiny-training.js'

/** `prompt>answer`, a point at the end for `<eos>`. */
export function answered(text: string): Response {
  const [prompt, answer] = text.split('>') as [string, string]
  return response(idsOf(prompt), idsOf(answer), answer.endsWith('.'))
}

/** What is learnt once from given answers and scores. */
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

  async #experience(lesson: Lesson, temperature: number, klCoef: number): Promise<Experience> {
    const total = Float64Array.from(lesson.scores)
    const { iteration = 0 } = lesson
    const experience = await experienceOf(
      this,
      { responses: lesson.answers.map(answered), rewarded: { total, bySource: {} }, iteration, klCoef },
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
    const learn = ppoLearning(
      {
        ...this,
        model: this.model,
        critic: this.critic,
        reference: this.reference,
        optimizers: { actor: this.#optimizer(this.model), critic: this.#optimizer(this.critic) },
        criticRatio: 10,
        withModel: lesson.withModel ?? false,
      },
      options,
    )
    const experience = await this.#experience(lesson, options.temperature, options.klCoef)
    return { experience, ...(await learn(experience, this.#context(lesson))) }
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
    options: Parameters<typeof groupLearning>[2] & { klCoef: number },
    lesson: Lesson,
  ) {
    const learn = groupLearning(
      { model: this.model, optimizer: this.#optimizer(this.model) },
      method,
      options,
    )
    const experience = await this.#experience(lesson, options.temperature, options.klCoef)
    if (method.recipe === 'grpo' && options.klCoef === 0) experience.referenceLogProbs = null
    return { experience, ...(await learn(experience, this.#context(lesson))) }
  }

  #context({ learningRate = 0, state }: Lesson) {
    return {
      learningRate,
      seed: 3,
      state: state ?? { scores: { count: 0, mean: 0, squares: 0 } },
    }
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
