import { charge } from './limits.js'

const SURROGATE = /[\ud800-\udfff]/

/** Whether code points and code units are the same. */
export function isBasic(text: string): boolean {
  charge(text.length / 64)
  return !SURROGATE.test(text)
}

const isPair = (text: string, at: number) =>
  (text.charCodeAt(at) & 0xfc00) === 0xd800 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00

/** Number of code points. */
export function codePoints(text: string): number {
  if (isBasic(text)) return text.length
  charge(text.length / 32)
  let count = text.length
  for (let at = 0; at < text.length - 1; at++) if (isPair(text, at)) count--
  return count
}

/** Code points of a text, as Python counts them. */
export interface Points {
  readonly length: number
  /** Position in code units of a code point, or of the end. */
  at(index: number): number
}

/** Where the code points of a text are. */
export function pointsOf(text: string): Points {
  if (isBasic(text)) return { length: text.length, at: (index) => index }
  charge(text.length / 16)
  /** Indices of the code points that have two code units. */
  const pairs: number[] = []
  for (let at = 0; at < text.length - 1; at++) if (isPair(text, at)) pairs.push(at++ - pairs.length)
  return {
    length: text.length - pairs.length,
    at: (index) => {
      let [low, high] = [0, pairs.length]
      while (low < high) {
        const middle = (low + high) >> 1
        if (pairs[middle]! < index) low = middle + 1
        else high = middle
      }
      return index + low
    },
  }
}
