/** Exit code of a run that was interrupted after it saved. */
export const INTERRUPTED = 130

/**
 * Ctrl-C (SIGINT) and SIGTERM: the first calls `onFirst`, the second exits at once through process.exit,
 * whose handlers join the torch thread. Returns a function that removes the handlers.
 */
export function onInterrupt(onFirst: () => void): () => void {
  let interrupted = false
  const handler = () => {
    if (interrupted) process.exit(INTERRUPTED)
    interrupted = true
    onFirst()
  }
  process.on('SIGINT', handler)
  process.on('SIGTERM', handler)
  return () => {
    process.off('SIGINT', handler)
    process.off('SIGTERM', handler)
  }
}
