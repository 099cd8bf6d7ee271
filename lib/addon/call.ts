import { AbortError, ERROR_CODES, type ErrorCode, PosttrainError } from '../errors.js'
import type { CancelHandle, Core } from './addon.js'

/**
 * Runs one native call and makes its failure ours: a PosttrainError (or AbortError) with the stack of the
 * caller, which a rejection made natively does not have.
 *
 * `start` gets a CancelHandle exactly when `signal` is given. An abort raises the flag; the promise still settles
 * only when the native job has ended, so that nothing runs on behind the caller's back.
 *
 * @example
 * await call(core, (cancel) => core.backward(role, batch, terms, options, cancel), signal)
 */
export async function call<T>(
  core: Pick<Core, 'createCancel' | 'cancel'>,
  start: (cancel?: CancelHandle) => Promise<T> | T,
  signal?: AbortSignal,
): Promise<T> {
  if (signal?.aborted) throw new AbortError(signal.reason)
  let cancel: CancelHandle | undefined
  let abort: (() => void) | undefined
  try {
    if (signal === undefined) return await start()
    const flag = core.createCancel()
    cancel = flag
    abort = () => core.cancel(flag)
    signal.addEventListener('abort', abort, { once: true })
    return await start(cancel)
  } catch (error) {
    throw typed(error, signal)
  } finally {
    if (abort !== undefined) signal?.removeEventListener('abort', abort)
  }
}

/** Keeps what is ours already; gives the rest a code and a JavaScript stack. */
export function typed(error: unknown, signal?: AbortSignal): PosttrainError | AbortError {
  if (error instanceof PosttrainError || error instanceof AbortError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  if (code === 'ABORT_ERR') return new AbortError(signal?.reason)
  const known = ERROR_CODES.find((name): name is ErrorCode => name === code)
  return new PosttrainError(known ?? 'ERR_INTERNAL', String(message ?? error), { cause: error })
}
