import type { Model } from '../../models/model.js'
import type { AdamW } from '../../optim/adamw.js'
import { recipeOptimizer } from './optimizer.js'
import { release } from './reference.js'
import { lockForTraining } from './training-lock.js'

/** Models, locks and optimizers that a run creates; disposing frees them in reverse order. */
export class Resources implements AsyncDisposable {
  readonly #free: (() => unknown)[] = []

  /** Takes ownership of a model and of its adapter. */
  model<Kept extends Model>(model: Kept): Kept {
    this.#free.push(() => release(model))
    return model
  }

  /** Locks the weights of a model and creates their optimizer. */
  optimizer(model: Model, options: Parameters<typeof recipeOptimizer>[1]): AdamW {
    const lock = lockForTraining(model)
    this.#free.push(() => lock[Symbol.dispose]())
    const optimizer = recipeOptimizer(model, options)
    this.#free.push(() => optimizer.dispose())
    return optimizer
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const free of this.#free.reverse()) await free()
  }
}
