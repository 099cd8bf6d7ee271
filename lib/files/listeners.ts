/**
 * Functions of the caller that are told of events while an operation goes on. What one of them throws ends the operation,
 * as it is. Nobody waits for a promise that one returns: what it is rejected with ends the operation at its next event.
 */
export class Listeners<Event> {
  readonly #all: () => Iterable<((event: Event) => unknown) | undefined>
  /** What a listener threw or rejected with. */
  failure: { error: unknown } | null = null

  /** `all` is asked at every event. */
  constructor(all: () => Iterable<((event: Event) => unknown) | undefined>) {
    this.#all = all
  }

  tell(event: Event): void {
    if (this.failure !== null) throw this.failure.error
    const fail = (error: unknown) => {
      this.failure ??= { error }
    }
    for (const listener of this.#all()) {
      try {
        const result = listener?.(event)
        if (typeof result === 'object' && result !== null && 'then' in result)
          Promise.resolve(result).catch(fail)
      } catch (error) {
        fail(error)
        throw error
      }
    }
  }
}
