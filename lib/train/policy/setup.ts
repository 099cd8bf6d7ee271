import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { RewardModel } from '../../models/reward-model.js'
import { AdamW } from '../../optim/adamw.js'
import type { RewardSource } from '../../rollout/rewards.js'
import { release } from '../roles/reference.js'
import { takeForTraining } from '../roles/training-lock.js'

/** What a rollout must at least have for its mini-batches. */
export function checkMiniBatches(answers: number, miniBatches: number): void {
  if (miniBatches <= answers) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `miniBatches ${miniBatches} is more than the ${answers} answers of a rollout`,
  )
}

/** Tokens of a prompt at most, so that the answer has room in every model that reads both. */
export function promptLength(
  models: readonly { contextLength: number | null }[],
  { maxPromptLength, maxNewTokens }: { maxPromptLength?: number | undefined; maxNewTokens: number },
): number {
  const context = Math.min(...models.map(({ contextLength }) => contextLength ?? Number.POSITIVE_INFINITY))
  const room = context - maxNewTokens
  if (room < 1) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `maxNewTokens ${maxNewTokens} leaves no room for a prompt in the context of ${context} of the model, its reference or its reward model`,
    )
  }
  return Math.min(room, maxPromptLength ?? Number.POSITIVE_INFINITY)
}

/** The models that read prompts and answers. */
export function readersOf(
  options: { model: CausalLM; reference?: CausalLM | undefined; critic?: RewardModel | undefined },
  sources: readonly RewardSource[],
): (CausalLM | RewardModel)[] {
  const { model, reference, critic } = options
  const judges = sources.map(({ reward }) => reward).filter((reward) => reward instanceof RewardModel)
  return [model, reference, critic, ...judges].filter((reader) => reader !== undefined)
}

/** What a run made for itself and frees at its end, the last made first. */
export class Made {
  readonly #free: (() => unknown)[] = []

  /** A model of the run's own; an adapter that it uses is the run's too. */
  model<Kept extends Model>(model: Kept): Kept {
    this.#free.push(() => release(model))
    return model
  }

  optimizer(
    of: Model,
    options: { learningRate: number; beta1: number; beta2: number; epsilon: number; weightDecay: number },
  ): AdamW {
    const held = takeForTraining(of)
    this.#free.push(() => held[Symbol.dispose]())
    const { learningRate, beta1, beta2, epsilon: eps, weightDecay } = options
    const optimizer = new AdamW(of, { learningRate, beta1, beta2, eps, weightDecay, decay: 'matrices' })
    this.#free.push(() => optimizer.dispose())
    return optimizer
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const free of this.#free.reverse()) await free()
  }
}
