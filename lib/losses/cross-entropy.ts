import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { IGNORE_INDEX } from '../addon/training.js'
import { is, needArgument, needOptions } from '../arguments.js'
import { PosttrainError } from '../errors.js'

export interface CrossEntropyResult<A extends Float32Array | Float64Array> {
  /** Mean over the counted rows, in nats; 0 without any. */
  loss: number
  /** Rows whose label is not the ignore index. */
  count: number
  /** Gradient of the mean with respect to the logits, [N, V]; on request. */
  gradient?: A
}

/**
 * Cross-entropy of logits [N, V], row by row, with labels [N]: -(1 / count) Σ log softmax(logits[n])[labels[n]] over
 * rows whose label is not `ignoreIndex`. Labels are not shifted. A Float64Array is computed in float64.
 *
 * ```ts
 * const { loss } = await crossEntropy(new Float32Array([2, 1, 0, 0, 1, 2]), Int32Array.of(0, -100))
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT where sizes do not match or a label is outside the columns.
 */
export async function crossEntropy<A extends Float32Array | Float64Array>(
  logits: A,
  labels: Int32Array,
  options: { ignoreIndex?: number; gradient?: boolean } = {},
): Promise<CrossEntropyResult<A>> {
  needArgument('crossEntropy', 'logits', logits, is.reals)
  needArgument('crossEntropy', 'labels', labels, is.int32)
  needOptions('crossEntropy', options, { ignoreIndex: is.number, gradient: is.flag })
  if (labels.length === 0 || logits.length === 0 || logits.length % labels.length !== 0) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `logits must be [N, V] for ${labels.length} labels, got ${logits.length} values`,
    )
  }
  const core = await loadCore()
  const given = {
    rows: labels.length,
    columns: logits.length / labels.length,
    ignoreIndex: options.ignoreIndex ?? IGNORE_INDEX,
    gradient: options.gradient ?? false,
  }
  return (await call(core, () => core.crossEntropy(logits, labels, given))) as CrossEntropyResult<A>
}
