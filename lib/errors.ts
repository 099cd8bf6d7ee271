/** Codes of PosttrainError: stable, for programs. */
export const ERROR_CODES = [
  'ERR_INVALID_ARGUMENT',
  'ERR_INVALID_FILE',
  'ERR_UNSUPPORTED_MODEL',
  'ERR_OUT_OF_MEMORY',
  'ERR_NON_FINITE',
  'ERR_DISPOSED',
  'ERR_LIBTORCH_NOT_FOUND',
  'ERR_LIBTORCH_VERSION',
  'ERR_LIBTORCH_LOAD',
  'ERR_UNSUPPORTED_DEVICE',
  'ERR_DEVICE_LOST',
  'ERR_BUNDLED',
  'ERR_DATA',
  'ERR_IO',
  'ERR_NETWORK',
  'ERR_HUB',
  'ERR_INTERNAL',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/**
 * The one error type that this package throws. `code` is stable, for programs; `message` is one sentence for
 * people: what was wrong, where, and what to do.
 */
export class PosttrainError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'PosttrainError'
    this.code = code
  }
}

/** Rejection of an aborted call, as in Node's own APIs: name `AbortError`, code `ABORT_ERR`, cause `signal.reason`. */
export class AbortError extends Error {
  readonly code = 'ABORT_ERR'

  constructor(reason?: unknown) {
    super('The operation was aborted', reason === undefined ? undefined : { cause: reason })
    this.name = 'AbortError'
  }
}

/** Throws an AbortError if the signal is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(signal.reason)
}
