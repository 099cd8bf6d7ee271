/** Exit code of a run that was interrupted after it saved. */
export const INTERRUPTED = 130

/**
 * Ctrl-C (SIGINT), SIGTERM and SIGHUP (a closed terminal, a lost connection): the first calls `onFirst`, the second exits
 * at once through process.exit, whose handlers join the torch thread. Returns a function that removes the handlers.
 */
export function onInterrupt(onFirst: () => void): () => void {
  let interrupted = false
  const handler = () => {
    if (interrupted) process.exit(INTERRUPTED)
    interrupted = true
    onFirst()
  }
  // A terminal that closes may say so twice, by its shell and by the system: nobody asks for an exit at once.
  const hangUp = () => {
    if (!interrupted) handler()
  }
  process.on('SIGINT', handler)
  process.on('SIGTERM', handler)
  process.on('SIGHUP', hangUp)
  return () => {
    process.off('SIGINT', handler)
    process.off('SIGTERM', handler)
    process.off('SIGHUP', hangUp)
  }
}
