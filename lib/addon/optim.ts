import type { CancelHandle, OptimizerHandle, RoleHandle } from './handles.js'

export interface OptimizerOptions {
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  /** Which parameters decay. */
  decay: 'all' | 'matrices'
}

export interface StepResult {
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number
  /** False when the norm was not finite: nothing was changed. */
  applied: boolean
}

/** AdamW. */
export interface OptimCalls {
  createOptimizer(role: RoleHandle, options: OptimizerOptions): Promise<OptimizerHandle>
  /** Clips by global norm (0: off), then AdamW. Throws while the gradients are dirty from a failed backward. */
  optimizerStep(
    optimizer: OptimizerHandle,
    options: { learningRate: number; maxGradNorm: number },
  ): Promise<StepResult>
  /** Moments and step count as one safetensors file, written and synced; the caller renames it. */
  saveOptimizer(optimizer: OptimizerHandle, path: string, cancel?: CancelHandle): Promise<void>
  loadOptimizer(optimizer: OptimizerHandle, path: string, cancel?: CancelHandle): Promise<void>
}
