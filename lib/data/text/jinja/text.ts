import { charge, checkLength } from './limits.js'
import type { Mark } from './origin.js'

/** A stretch of a text with one origin. It begins where the one before it ends; positions are UTF-16 code units. */
export interface TextRun {
  readonly to: number
  readonly mark: Mark
}

/**
 * A string that contains data. Strings of the template alone are JavaScript strings. One that was joined stays its parts
 * until its characters are read, so that a template may collect a long text piece by piece.
 */
export class Text {
  readonly length: number
  readonly safe: boolean
  #text: string
  #runs: readonly TextRun[]
  #parts: readonly Str[] | null = null

  /** `safe`: HTML that `escape` leaves as it is. */
  constructor(text: string, runs: readonly TextRun[], safe = false, length: number = text.length) {
    this.length = length
    this.safe = safe
    this.#text = text
    this.#runs = runs
  }

  /** A text of parts that have so many characters together. */
  static joined(parts: readonly Str[], length: number): Text {
    const text = new Text('', [], false, length)
    text.#parts = parts
    return text
  }

  get text(): string {
    this.#join()
    return this.#text
  }

  get runs(): readonly TextRun[] {
    this.#join()
    return this.#runs
  }

  /** Joins the parts, and theirs, without calls inside each other: a text may be one of thousands of joins. */
  #join(): void {
    if (this.#parts === null) return
    charge(this.length / 256)
    const pieces: string[] = []
    const runs: { to: number; mark: Mark }[] = []
    let from = 0
    const open: { parts: readonly Str[]; at: number }[] = [{ parts: this.#parts, at: 0 }]
    for (let top = open[0]; top !== undefined; top = open[open.length - 1]) {
      const part = top.parts[top.at++]
      if (part === undefined) open.pop()
      else if (part instanceof Text && part.#parts !== null) open.push({ parts: part.#parts, at: 0 })
      else {
        const text = typeof part === 'string' ? part : part.#text
        charge(1)
        if (text === '') continue
        pieces.push(text)
        from = addRuns(runs, from, typeof part === 'string' ? [{ to: text.length, mark: null }] : part.#runs)
      }
    }
    this.#text = pieces.join('')
    this.#runs = runs
    this.#parts = null
  }
}

/** Appends the runs of a text that begins at `from`; returns its end. */
function addRuns(runs: { to: number; mark: Mark }[], from: number, added: readonly TextRun[]): number {
  charge(added.length)
  let end = from
  for (const { to, mark } of added) {
    end = from + to
    const last = runs[runs.length - 1]
    if (last !== undefined && last.mark === mark) last.to = end
    else runs.push({ to: end, mark })
  }
  return end
}

export type Str = string | Text

export function isStr(value: unknown): value is Str {
  return typeof value === 'string' || value instanceof Text
}

export function raw(text: Str): string {
  return typeof text === 'string' ? text : text.text
}

/** A text as the key of a map, which reads all of it. */
export function hashed(text: Str): string {
  charge(text.length / 64)
  return raw(text)
}

/** A text of one origin. */
export function marked(text: string, mark: Mark): Str {
  return mark === null ? text : new Text(text, [{ to: text.length, mark }])
}

/** Collects text with its origins. */
export class TextBuilder {
  text = ''
  #runs: { to: number; mark: Mark }[] = []
  #tracked = false

  add(text: Str): void {
    if (typeof text === 'string') this.addAs(text, null)
    else this.#append(text.text, text.runs)
  }

  addAs(text: string, mark: Mark): void {
    this.#append(text, [{ to: text.length, mark }])
  }

  /** Appends the text as a whole: cutting its runs out would copy a long text that was just joined. */
  #append(text: string, runs: readonly TextRun[]): void {
    if (text === '') return
    const from = this.text.length
    this.text += text
    checkLength(this.text.length)
    addRuns(this.#runs, from, runs)
    this.#tracked ||= runs.some(({ mark }) => mark !== null)
  }

  get runs(): readonly TextRun[] {
    return this.#runs
  }

  finish(): Str {
    return this.#tracked ? new Text(this.text, this.#runs) : this.text
  }
}

export function concat(parts: readonly Str[]): Str {
  let length = 0
  let plain = true
  for (const part of parts) {
    length += part.length
    if (part instanceof Text) plain = false
  }
  charge(2 * parts.length)
  checkLength(length)
  if (!plain) return Text.joined(parts, length)
  charge(length / 64)
  return parts.length === 2 ? `${parts[0]}${parts[1]}` : parts.join('')
}

/** Index of the run that contains the character at `at`. */
function runAt(runs: readonly TextRun[], at: number): number {
  let low = 0
  let high = runs.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (runs[middle]!.to > at) high = middle
    else low = middle + 1
  }
  return low
}

/** Origin of the character at a position. */
export function markAt(text: Str, at: number): Mark {
  return typeof text === 'string' ? null : (text.runs[runAt(text.runs, at)]?.mark ?? null)
}

/** A part, by code units. */
export function slice(text: Str, from: number, to: number = raw(text).length): Str {
  if (typeof text === 'string') return text.slice(from, to)
  if (from === 0 && to === text.length) return text
  const part = text.text.slice(from, to)
  if (part === '') return ''
  const runs: TextRun[] = []
  let tracked = false
  for (let i = runAt(text.runs, from); i < text.runs.length; i++) {
    const run = text.runs[i]!
    runs.push({ to: Math.min(run.to, to) - from, mark: run.mark })
    if (run.mark !== null) tracked = true
    if (run.to >= to) break
  }
  charge(runs.length)
  return tracked ? new Text(part, runs, text.safe) : part
}

/** Changes a text stretch by stretch where `change` keeps no position, e.g. of ß, which has two capitals. */
export function mapText(text: Str, change: (part: string) => string): Str {
  const before = raw(text)
  charge(before.length / 8)
  const after = change(before)
  if (typeof text === 'string') return after
  if (text.runs.length === 1) return marked(after, text.runs[0]!.mark)
  if (after.length === before.length) return new Text(after, text.runs)
  const built = new TextBuilder()
  let from = 0
  for (const { to, mark } of text.runs) {
    built.addAs(change(before.slice(from, to)), mark)
    from = to
  }
  return built.finish()
}

/** The characters, each with its origin. */
export function characters(text: Str): Str[] {
  const source = raw(text)
  charge(2 * source.length)
  if (typeof text === 'string') return [...source]
  const single = text.runs.length === 1 ? text.runs[0]!.mark : null
  if (single !== null) return Array.from(source, (character) => marked(character, single))
  const all: Str[] = []
  let position = 0
  for (const character of source) {
    all.push(marked(character, markAt(text, position)))
    position += character.length
  }
  return all
}

/** Orders by code points: the first units that differ decide, where halves of a pair follow all others. */
export function compareText(a: string, b: string): number {
  const most = Math.min(a.length, b.length)
  let at = 0
  while (at < most && a.charCodeAt(at) === b.charCodeAt(at)) at++
  charge(at / 16)
  if (at === most) return a.length - b.length
  const rank = (unit: number) => (unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit)
  return rank(a.charCodeAt(at)) - rank(b.charCodeAt(at))
}
