import { visibleLine } from './visible.js'

/** Columns that a line names. */
const SHOWN = 12

/** A line with the columns of the rows that were not read; none where all were. */
export function describeUnread(counts: Readonly<Record<string, number>>): string[] {
  const names = Object.keys(counts)
  if (names.length === 0) return []
  const shown = names.slice(0, SHOWN).map((name) => visibleLine(name, 40))
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : ''
  return [`columns that are not read: ${shown.join(', ')}${more}`]
}
