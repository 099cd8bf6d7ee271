import type * as Api from '../../lib/index.js'
import type * as Losses from '../../lib/losses/index.js'

export interface EntryPoint {
  name: string
  // biome-ignore lint/suspicious/noExplicitAny: every value is passed to every place.
  call: (...args: any[]) => unknown
  /** Valid arguments; the last one is the options where there are any. */
  args: readonly unknown[]
  /** Options, each of which is replaced in turn. */
  options?: Record<string, unknown>
}

export interface Given {
  api: typeof Api
  losses: typeof Losses
  model: Api.CausalLM
  reward: Api.RewardModel
  tokenizer: Api.Tokenizer
  folder: string
}

export const BATCH = {
  inputIds: Int32Array.of(1, 2, 3),
  offsets: Int32Array.of(0, 3),
  labels: Int32Array.of(-100, 2, 3),
}
export const PADDED = {
  inputIds: Int32Array.of(1, 2, 3, 4),
  attentionMask: Int32Array.of(1, 1, 1, 1),
  labels: Int32Array.of(-100, 2, -100, 4),
  rows: 2,
  columns: 2,
}
export const MESSAGES = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
]
export const ROWS = [{ text: 'abc abc' }, { text: 'abc' }]
export const PAIRS = [{ prompt: 'a', chosen: 'b', rejected: 'c' }]
export const SIGNAL = undefined
export const LENGTHS = { maxLength: 16, maxSteps: 1, batchSize: 1 }

export function entry(
  name: string,
  call: EntryPoint['call'],
  args: unknown[],
  options?: Record<string, unknown>,
): EntryPoint {
  return options === undefined ? { name, call, args } : { name, call, args: [...args, options], options }
}
