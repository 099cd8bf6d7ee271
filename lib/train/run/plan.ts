import type { Template } from '../../data/text/template.js'
import type { Model } from '../../models/model.js'
import type { Parts } from './checkpoint.js'
import type { EndEvent } from './events.js'
import type { RunFolder } from './folder.js'
import type { RunControl } from './run.js'
import type { SessionState } from './state.js'

/** Everything that a session needs to know of its run. */
export interface SessionPlan<State extends SessionState> {
  recipe: string
  model: Model
  control: RunControl
  options: {
    output?: string | undefined
    resume: boolean
    overwrite: boolean
    takeLock: boolean
    checkpoints?: { keep: number } | undefined
    saveDtype?: 'float32' | 'bfloat16' | 'float16' | undefined
    signal?: AbortSignal | undefined
  }
  /** Options for config.json, with values that the recipe resolved. */
  config: Record<string, unknown>
  /** Options that only set the length of the run: a resume may change them. */
  lengthOptions: readonly string[]
  /** Content hashes of the data for config.json. */
  data: Record<string, string>
  /** Tensor files of a checkpoint; the first has the weights of `model`. */
  parts: Parts
  /** State before the first step. */
  beginning: State
  /** Template of the prompts, saved with a model that has none; null for plain text. */
  template: Template | null
  /** What is wrong with the state in the checkpoint of a step; null if nothing is. */
  faultOf(state: unknown, step: number): string | null
  /** Fields of the end event for a state. */
  progress(state: State): Pick<EndEvent, 'epochs' | 'loss' | 'bestLoss' | 'bestStep'>
  /** Step whose weights are the result and whose checkpoint is kept; null for the last one. */
  bestStep?(state: State): number | null
  /** Pad token for RewardModel.save(). */
  padToken?: string | undefined
  /** Saves other trained models, such as the critic. */
  saveOthers?(folder: RunFolder): Promise<void>
}
