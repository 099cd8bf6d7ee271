import { PosttrainError } from '../../errors.js'
import type { Program } from './regex-program.js'

/** Most steps for each character of a text; the memory of failed places keeps common patterns far below. */
const STEPS_PER_CHARACTER = 128
/** Most bits that are remembered of one text. */
const MAX_BITS = 2 ** 31

interface Run {
  text: string
  steps: number
  /** Failed and present places of each program: bit `split * (length + 1) + place`. */
  seen: Map<Program, Uint8Array>
}

/**
 * Matches a pattern as JavaScript does, in time linear in the text: a place from which a split of the pattern has failed
 * once is never tried again, whatever the start of the attempt. Takes the place of a RegExp with the flags `gu` in the
 * methods of strings. Groups capture nothing.
 */
export class LinearRegex {
  /** Asked by String.replaceAll and String.matchAll. */
  readonly flags = 'gu'
  readonly #program: Program
  readonly #name: string

  constructor(program: Program, name: string) {
    this.#program = program
    this.#name = name
  }

  *[Symbol.matchAll](text: string): Generator<RegExpExecArray> {
    const run: Run = { text, steps: 0, seen: new Map() }
    for (let at = 0; at <= text.length; ) {
      const end = this.#match(this.#program, run, at)
      const width = (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1
      if (end >= 0) yield Object.assign([text.slice(at, end)], { index: at, input: text }) as RegExpExecArray
      at = end > at ? end : at + width
    }
  }

  [Symbol.match](text: string): string[] | null {
    const found = Array.from(this[Symbol.matchAll](text), ([match]) => match)
    return found.length === 0 ? null : found
  }

  [Symbol.split](text: string): string[] {
    const pieces: string[] = []
    let from = 0
    for (const { 0: match, index } of this[Symbol.matchAll](text)) {
      if (match === '') continue
      pieces.push(text.slice(from, index))
      from = index + match.length
    }
    return [...pieces, text.slice(from)]
  }

  /** End of the match that begins at `start`, or -1. */
  #match(program: Program, run: Run, start: number): number {
    const { code, forward } = program
    const { text } = run
    const width = text.length + 1
    const seen = this.#seen(program, run)
    const limit = 100_000 + STEPS_PER_CHARACTER * text.length
    const marked: number[] = []
    const pending = [0, start]
    while (pending.length > 0) {
      let at = pending.pop()!
      let next = pending.pop()!
      for (;;) {
        if (++run.steps > limit) throw this.#tooLong(limit, text.length)
        const instruction = code[next]!
        if (instruction.op === 'jump') {
          next = instruction.to
        } else if (instruction.op === 'split') {
          const bit = instruction.id * width + at
          if ((seen[bit >> 3]! & (1 << (bit & 7))) !== 0) break
          seen[bit >> 3]! |= 1 << (bit & 7)
          if (program !== this.#program) marked.push(bit)
          pending.push(instruction.other, at)
          next = instruction.to
        } else if (instruction.op === 'character') {
          const point = forward ? text.codePointAt(at) : before(text, at)
          if (point === undefined || !instruction.set(point)) break
          at += (point > 0xffff ? 2 : 1) * (forward ? 1 : -1)
          next++
        } else if (instruction.op === 'beside') {
          const point = instruction.ahead ? text.codePointAt(at) : before(text, at)
          if ((point !== undefined && instruction.set(point)) === instruction.negate) break
          next++
        } else if (instruction.op === 'edge') {
          if (at !== (instruction.kind === 'start' ? 0 : text.length)) break
          next++
        } else if (instruction.op === 'look') {
          if (this.#match(instruction.program, run, at) >= 0 === instruction.negate) break
          next++
        } else {
          // The places on the way to a match have not failed: the next attempt may pass the last of them again.
          for (const bit of marked) seen[bit >> 3]! &= ~(1 << (bit & 7))
          if (program === this.#program)
            for (let bit = at; bit < program.splits * width; bit += width)
              seen[bit >> 3]! &= ~(1 << (bit & 7))
          return at
        }
      }
    }
    return -1
  }

  #seen(program: Program, run: Run): Uint8Array {
    let seen = run.seen.get(program)
    if (seen === undefined) {
      const bits = program.splits * (run.text.length + 1)
      if (bits > MAX_BITS) throw this.#tooLong(MAX_BITS, run.text.length)
      seen = new Uint8Array((bits >> 3) + 1)
      run.seen.set(program, seen)
    }
    return seen
  }

  #tooLong(steps: number, length: number): PosttrainError {
    return new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: the pattern ${this.#name} needs more than ${steps} steps for a text of ${length} characters and is refused`,
    )
  }
}

/** Code point that ends before a place. */
function before(text: string, at: number): number | undefined {
  if (at === 0) return undefined
  const last = text.charCodeAt(at - 1)
  if (at === 1 || last < 0xdc00 || last > 0xdfff) return last
  const pair = text.codePointAt(at - 2)!
  return pair > 0xffff ? pair : last
}
