import { charge, checkLength } from './limits.js'
import type { Mark } from './origin.js'

/** A stretch of a text with one origin. It begins where the one before it ends; positions are UTF-16 code units. */
export interface TextRun {
  readonly to: number
  readonly mark: Mark
}

/** A string that contains data. Strings of the template alone are JavaScript strings. */
export class Text {
  readonly text: string
  readonly runs: readonly TextRun[]
  readonly safe: boolean

  /** `safe`: HTML that `escape` leaves as it is. */
  constructor(text: string, runs: readonly TextRun[], safe = false) {
    this.text = text
    this.runs = runs
    this.safe = safe
  }
}

export type Str = string | Text

export function isStr(value: unknown): value is Str {
  return typeof value === 'string' || value instanceof Text
}

export function raw(text: Str): string {
  return typeof text === 'string' ? text : text.text
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
    for (const { to, mark } of runs) {
      const last = this.#runs[this.#runs.length - 1]
      if (last !== undefined && last.mark === mark) last.to = from + to
      else this.#runs.push({ to: from + to, mark })
      if (mark !== null) this.#tracked = true
    }
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
    if (typeof part === 'string') length += part.length
    else {
      length += part.text.length
      plain = false
      charge(part.runs.length)
    }
  }
  charge(2 * parts.length + length / 32)
  checkLength(length)
  if (plain) return parts.length === 2 ? `${parts[0]}${parts[1]}` : parts.join('')
  const built = new TextBuilder()
  for (const part of parts) built.add(part)
  return built.finish()
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
  if (from === 0 && to === text.text.length) return text
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

const SURROGATE = /[\ud800-\udfff]/

/** Whether code points and code units are the same. */
export function isBasic(text: string): boolean {
  return !SURROGATE.test(text)
}

export function codePoints(text: string): number {
  charge(text.length / 64)
  if (isBasic(text)) return text.length
  charge(text.length)
  let count = 0
  for (const _ of text) count++
  return count
}

/** Positions in code units of every code point, and of the end. */
export function boundaries(text: string): number[] {
  charge(text.length)
  const at: number[] = []
  let position = 0
  for (const character of text) {
    at.push(position)
    position += character.length
  }
  at.push(position)
  return at
}

/** The characters, each with its origin. */
export function characters(text: Str): Str[] {
  const source = raw(text)
  charge(source.length)
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

/** Orders by code points. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0
  if (isBasic(a) && isBasic(b)) return a < b ? -1 : 1
  const left = [...a]
  const right = [...b]
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = left[i]!.codePointAt(0)! - right[i]!.codePointAt(0)!
    if (difference !== 0) return difference
  }
  return left.length - right.length
}
