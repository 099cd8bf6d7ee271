import { is, needArgument } from '../arguments.js'
import { AbortError, ERROR_CODES, type ErrorCode, PosttrainError } from '../errors.js'
import type { CancelHandle, Core } from './addon.js'

/**
 * Runs one native call and converts its failure to a PosttrainError (or AbortError) with the stack of the caller, which
 * a native rejection does not have.
 *
 * `start` receives a CancelHandle if there is a `signal`. An abort raises its flag; the promise still settles only when
 * the native job has ended, so that no work continues in the background.
 *
 * @example
 * await call(core, (cancel) => core.backward(role, batch, terms, options, cancel), signal)
 */
export async function call<T>(
  core: Pick<Core, 'createCancel' | 'cancel'>,
  start: (cancel?: CancelHandle) => Promise<T> | T,
  signal?: AbortSignal,
): Promise<T> {
  if (signal !== undefined) needArgument('the call', 'signal', signal, is.signal)
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

/** Converts an error to one of this package, with a code and a JavaScript stack. */
export function typed(error: unknown, signal?: AbortSignal): PosttrainError | AbortError {
  if (error instanceof PosttrainError || error instanceof AbortError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  if (code === 'ABORT_ERR') return new AbortError(signal?.reason)
  const known = ERROR_CODES.find((name): name is ErrorCode => name === code)
  return new PosttrainError(known ?? 'ERR_INTERNAL', String(message ?? error), { cause: error })
}
