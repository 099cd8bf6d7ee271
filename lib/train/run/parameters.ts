import type { Model } from '../../models/model.js'

/** Number of parameters of a model: all, and those that are trained. */
export async function countParameters(model: Model): Promise<{ all: number; trainable: number }> {
  const counts = { all: 0, trainable: 0 }
  for (const { shape, trainable } of await model.parameters()) {
    const size = shape.reduce((product, n) => product * n, 1)
    counts.all += size
    if (trainable) counts.trainable += size
  }
  return counts
}
