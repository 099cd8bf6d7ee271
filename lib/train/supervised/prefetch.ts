/**
 * Yields the items of `source`, and prepares the next while one is being used. One item ahead hides reading and
 * tokenization behind the training, and costs the memory of one step's data.
 */
export async function* prefetch<T>(source: AsyncIterable<T>): AsyncGenerator<T, void> {
  const items = source[Symbol.asyncIterator]()
  let next = items.next()
  try {
    for (;;) {
      const { done, value } = await next
      if (done) return
      next = items.next()
      // A failure is thrown when its turn comes; until then it must not be an unhandled rejection.
      next.catch(() => undefined)
      yield value
    }
  } finally {
    await next.catch(() => undefined)
    await items.return?.()
  }
}
