import type { CancelHandle, OptimizerHandle, RoleHandle } from './handles.js'

export interface OptimizerOptions {
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  /** Which parameters decay. */
  decay: 'all' | 'matrices'
  /** Precision of the moments. */
  moments: 'float32' | 'bfloat16' | '8bit'
}

export interface StepResult {
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number
  /** False if the norm was not finite: the step was skipped. */
  applied: boolean
}

/** AdamW. */
export interface OptimCalls {
  createOptimizer(role: RoleHandle, options: OptimizerOptions): Promise<OptimizerHandle>
  /** Clips by global norm (0: off), then takes an AdamW step. Throws after a failed backward until zeroGrad. */
  optimizerStep(
    optimizer: OptimizerHandle,
    options: { learningRate: number; maxGradNorm: number },
  ): Promise<StepResult>
  /** Writes and syncs the moments and the step count as one safetensors file; the caller renames it. */
  saveOptimizer(optimizer: OptimizerHandle, path: string, cancel?: CancelHandle): Promise<void>
  loadOptimizer(optimizer: OptimizerHandle, path: string, cancel?: CancelHandle): Promise<void>
}
