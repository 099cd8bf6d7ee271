/**
 * The same items, each made ready while the one before is being used. One item ahead: enough to hide the
 * reading and tokenising behind the training, and no more memory than one step's data.
 */
export async function* prefetch<T>(source: AsyncIterable<T>): AsyncGenerator<T, void> {
  const items = source[Symbol.asyncIterator]()
  let next = items.next()
  try {
    for (;;) {
      const { done, value } = await next
      if (done) return
      next = items.next()
      // A failure is thrown when its turn comes; until then it is not an unhandled one.
      next.catch(() => undefined)
      yield value
    }
  } finally {
    await next.catch(() => undefined)
    await items.return?.()
  }
}
