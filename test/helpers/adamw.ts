import type { BlockwiseOptions } from '../bindings/hooks.js'
import { fixture, readTensors } from './fixtures.js'

/** A step of test/fixtures/optim/adamw8bit.safetensors. */
export const adamwStep: BlockwiseOptions = {
  learningRate: 1e-2,
  weightDecay: 0.1,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  gradScale: 2,
  byOperations: false,
}

const tensors = readTensors(fixture('optim', 'adamw8bit.safetensors'))
/** A tensor of that file. */
export const adamwValues = (name: string) => Float32Array.from(tensors.get(name)!.values)
