import type { StringCounts } from '../data/encode/report.js'
import { visibleLine } from './visible.js'

/** What a report says of texts outside of messages. */
interface StringReport {
  stringPrompts: StringCounts
  example: string | null
}

const TAKEN: Record<keyof StringCounts, string> = {
  turn: 'in a user turn of the template (--template none takes them raw)',
  raw: 'raw, without a template',
  rendered: 'rendered already: raw, with marks of special tokens as special tokens',
}

/** Lines of a report on how string prompts were taken, with the first row. */
export function describeStrings({ stringPrompts, example }: StringReport): string[] {
  const lines = Object.entries(TAKEN)
    .map(([form, how]) => ({ count: stringPrompts[form as keyof StringCounts], how }))
    .filter(({ count }) => count > 0)
    .map(({ count, how }) => `${count} string prompt${count === 1 ? '' : 's'} ${how}`)
  if (lines.length > 0 && example !== null) lines.push(`the first row is ${visibleLine(example)}`)
  return lines
}
