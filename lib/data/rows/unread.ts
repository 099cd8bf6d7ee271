import { type Fields, isEmpty, nameIn } from './fields.js'
import { columnsOf } from './names.js'
import type { RowKind } from './row-kind.js'

/** Columns that a row may have beside its texts. */
const BESIDE = ['system', 'tools', 'functions', 'available_tools', 'chat_template_kwargs']
const OF_KINDS: Record<Exclude<RowKind, 'prompt'>, readonly string[]> = {
  sft: ['weight'],
  preference: ['weight', 'chosen', 'rejected', 'responses', 'scores', 'ranks', 'margin'],
  unpaired: ['weight', 'label', 'chosen', 'rejected'],
}

/** Columns of a row with a value that no reader of this kind looks at, by the names that the row has for them. */
export function unreadColumns(row: unknown, kind: RowKind): string[] {
  if (kind === 'prompt') return []
  const { fields, at } = columnsOf(row, { source: '', line: 0 })
  const read = new Set([...BESIDE, ...OF_KINDS[kind], ...textsOf(fields, kind)])
  return Object.keys(fields)
    .filter((name) => !read.has(name) && !isEmpty(fields[name]))
    .map((name) => nameIn(at, name))
}

function textsOf(fields: Fields, kind: RowKind): string[] {
  const answers = kind !== 'preference'
  if (fields.messages !== undefined) return ['messages']
  if (fields.instruction !== undefined)
    return ['instruction', 'input', 'history', ...(answers ? ['output'] : [])]
  if (fields.prompt !== undefined)
    return ['prompt', 'history', 'rendered', ...(answers ? ['completion'] : [])]
  return answers ? ['text', 'rendered'] : []
}
