import { PosttrainError } from '../errors.js'
import type { CausalLM, TrainableModel } from '../models/causal-lm.js'
import { AdamW } from '../optim/adamw.js'
import { release } from './reference.js'

/** What a rollout must at least have for its mini-batches. */
export function checkMiniBatches(answers: number, miniBatches: number): void {
  if (miniBatches <= answers) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `miniBatches ${miniBatches} is more than the ${answers} answers of a rollout`,
  )
}

/** Tokens of a prompt at most, so that the answer has room. */
export function promptLength(
  model: CausalLM,
  { maxPromptLength, maxNewTokens }: { maxPromptLength?: number | undefined; maxNewTokens: number },
): number {
  const room = (model.contextLength ?? Number.POSITIVE_INFINITY) - maxNewTokens
  if (room < 1) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `maxNewTokens ${maxNewTokens} leaves no room for a prompt in the model's context of ${model.contextLength}`,
    )
  }
  return Math.min(room, maxPromptLength ?? Number.POSITIVE_INFINITY)
}

/** What a run made for itself and frees at its end, the last made first. */
export class Made {
  readonly #free: (() => Promise<void>)[] = []

  /** A model of the run's own; an adapter that it uses is the run's too. */
  model<Model extends TrainableModel>(model: Model): Model {
    this.#free.push(() => release(model))
    return model
  }

  optimizer(
    of: TrainableModel,
    options: { learningRate: number; beta1: number; beta2: number; epsilon: number; weightDecay: number },
  ): AdamW {
    const { learningRate, beta1, beta2, epsilon: eps, weightDecay } = options
    const optimizer = new AdamW(of, { learningRate, beta1, beta2, eps, weightDecay, decay: 'matrices' })
    this.#free.push(() => optimizer.dispose())
    return optimizer
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const free of this.#free.reverse()) await free()
  }
}
