import { type Fields, isEmpty, nameIn } from './fields.js'
import { type Columns, withChosen } from './names.js'
import type { RowKind } from './row-kind.js'
import { pairIn } from './unpaired-rows.js'

/** Columns that a row may have beside its texts. */
const BESIDE = ['system', 'tools', 'functions', 'available_tools', 'chat_template_kwargs']
const OF_KINDS = {
  sft: ['weight'],
  preference: ['weight', 'responses', 'scores', 'ranks', 'margin'],
  unpaired: ['weight', 'label'],
}
const PAIR = ['chosen', 'rejected']

/** Columns of a row with a value that no reader of this kind looks at, by the names that the row has for them. */
export function unreadColumns(columns: Columns, kind: RowKind): string[] {
  if (kind === 'prompt') return []
  const pair = kind === 'preference' ? withChosen(columns) : kind === 'unpaired' ? pairIn(columns) : null
  const { fields, at } = pair ?? columns
  const read = [BESIDE, OF_KINDS[kind], pair === null ? [] : PAIR, textsOf(fields, pair === null)]
  return Object.keys(fields)
    .filter((name) => !isEmpty(fields[name]) && !read.some((names) => names.includes(name)))
    .map((name) => nameIn(at, name))
}

/** Columns of the texts of a row, of which a pair has the prompt alone. */
function textsOf(fields: Fields, isAnswered: boolean): string[] {
  if (fields.messages !== undefined) return ['messages']
  if (fields.instruction !== undefined)
    return ['instruction', 'input', 'history', ...(isAnswered ? ['output'] : [])]
  if (fields.prompt !== undefined)
    return ['prompt', 'history', 'rendered', ...(isAnswered ? ['completion'] : [])]
  return isAnswered ? ['text', 'rendered'] : []
}
