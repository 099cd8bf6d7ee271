import { Failure, typeError, valueError } from './failure.js'
import { itemsOf, Range } from './iteration.js'
import { charge, MAX_RANGE } from './limits.js'
import { indexOf } from './numbers.js'
import { repr, str } from './spelling.js'
import { strftime } from './strftime.js'
import { concat, raw, type Str } from './text.js'
import { Callable, Dict, type Entry, type Keywords, Special, Tuple, type Value } from './values.js'

/** `namespace()`: attributes that a template may set, also from inside of loops. */
export class Namespace extends Special {
  readonly typeName = 'Namespace'
  readonly #values = new Map<string, Value>()

  constructor(entries: readonly Entry[]) {
    super()

    for (const { key, value } of entries) this.set(raw(str(key)), value)
  }

  set(name: string, value: Value): void {
    this.#values.set(name, value)
  }

  override attribute(name: string): Value | undefined {
    return this.#values.get(name)
  }

  override spelled(): Str {
    const dict = new Dict([...this.#values].map(([key, value]) => ({ key, value })))
    return concat(['<Namespace ', repr(dict), '>'])
  }
}

class Cycler extends Special {
  readonly typeName = 'Cycler'
  readonly #items: readonly Value[]
  #at = 0

  constructor(items: readonly Value[]) {
    super()

    if (items.length === 0) throw new Failure('TemplateError', 'at least one item has to be provided')
    this.#items = items
  }

  override attribute(name: string): Value | undefined {
    const current = this.#items[this.#at]!
    if (name === 'current') return current
    if (name === 'items') return new Tuple(this.#items)
    if (name === 'pos') return this.#at
    if (name === 'reset') {
      return new Callable('reset', () => {
        this.#at = 0
        return null
      })
    }
    if (name !== 'next') return undefined
    return new Callable('next', () => {
      const value = this.#items[this.#at]!
      this.#at = (this.#at + 1) % this.#items.length
      return value
    })
  }
}

function argument(args: readonly Value[], keywords: Keywords | null, name: string): Value | undefined {
  return args.length > 0 ? args[0] : keywords?.get(name)
}

function joiner(args: readonly Value[], keywords: Keywords | null): Value {
  const given = argument(args, keywords, 'sep')
  const separator = given === undefined ? ', ' : given
  let used = false
  return new Callable('joiner', () => {
    if (used) return separator
    used = true
    return ''
  })
}

/** The entries that dict() and namespace() take. */
function entriesOf(name: string, args: readonly Value[], keywords: Keywords | null): Entry[] {
  if (args.length > 1) throw typeError(`${name} expected at most 1 argument, got ${args.length}`)
  const [from] = args
  const entries =
    from === undefined
      ? []
      : from instanceof Dict
        ? from.entries()
        : itemsOf(from).map((item) => {
            const pair = itemsOf(item)
            if (pair.length !== 2) throw valueError('a dict is made of pairs')
            return { key: pair[0]!, value: pair[1]! }
          })
  return [...entries, ...[...(keywords ?? [])].map(([key, value]) => ({ key, value }))]
}

function range(args: readonly Value[], keywords: Keywords | null): Value {
  if (keywords !== null) throw typeError('range() takes no keyword arguments')
  if (args.length === 0 || args.length > 3)
    throw typeError(`range expected 1 to 3 arguments, got ${args.length}`)
  const numbers = args.map(indexOf)
  const [start, stop, step] =
    numbers.length === 1 ? [0, numbers[0]!, 1] : [numbers[0]!, numbers[1]!, numbers[2] ?? 1]
  if (step === 0) throw valueError('range() arg 3 must not be zero')
  const made = new Range(start, stop, step)
  if (made.length > MAX_RANGE) {
    throw new Failure('OverflowError', `a range has more than ${MAX_RANGE} numbers`)
  }
  charge(1)
  return made
}

const FIXED = new Map<string, Value>(
  Object.entries({
    range: new Callable('range', range),
    dict: new Callable('dict', (args, keywords) => new Dict(entriesOf('dict', args, keywords))),
    namespace: new Callable(
      'namespace',
      (args, keywords) => new Namespace(entriesOf('namespace', args, keywords)),
    ),
    cycler: new Callable('cycler', (args) => new Cycler(args)),
    joiner: new Callable('joiner', joiner),
    lipsum: new Callable('lipsum', () => {
      throw new Failure('TemplateError', 'lipsum is refused: its text is random')
    }),
    raise_exception: new Callable('raise_exception', (args, keywords) => {
      const message = argument(args, keywords, 'message')
      if (message === undefined) throw typeError("raise_exception() misses the argument 'message'")
      throw new Failure('TemplateError', raw(str(message)))
    }),
  }),
)

/** Functions that every template has. */
export function globals(now: Date | undefined): ReadonlyMap<string, Value> {
  return new Map(FIXED).set(
    'strftime_now',
    new Callable('strftime_now', (args, keywords) => {
      const format = argument(args, keywords, 'format')
      if (format === undefined) throw typeError("strftime_now() misses the argument 'format'")
      charge(100 + 16 * raw(str(format)).length)
      return strftime(raw(str(format)), now ?? new Date())
    }),
  )
}
