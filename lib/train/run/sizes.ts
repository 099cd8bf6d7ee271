import type { Model } from '../../models/model.js'

/** Values of a model in all, and of those that are trained. */
export async function sizeOf(model: Model): Promise<{ all: number; trainable: number }> {
  const sizes = { all: 0, trainable: 0 }
  for (const { shape, trainable } of await model.parameters()) {
    const size = shape.reduce((product, n) => product * n, 1)
    sizes.all += size
    if (trainable) sizes.trainable += size
  }
  return sizes
}
