import { columnsOf, LISTS } from './columns.js'
import { isObject, type Origin } from './fields.js'
import { exampleOf } from './rows.js'

/** Kinds of rows by the recipes that read them. */
export const ROW_KINDS = ['sft', 'preference', 'unpaired', 'prompt'] as const
export type RowKind = (typeof ROW_KINDS)[number]

/** The kind of a row by its columns: a row without a response is a prompt. Throws ERR_DATA. */
export function rowKindOf(row: unknown, origin: Origin): RowKind {
  const fields = columnsOf(row, origin)
  const { chosen, rejected, responses, label, kto_tag: tag } = fields
  if ([chosen, rejected, responses].some((column) => column !== undefined)) return 'preference'
  if (typeof label === 'boolean' || typeof tag === 'boolean') return 'unpaired'
  if (LISTS.some((name) => fields[name] !== undefined)) {
    const example = exampleOf(fields, origin)
    return example.kind === 'messages' && example.messages.at(-1)?.role !== 'assistant' ? 'prompt' : 'sft'
  }
  if (fields.instruction !== undefined) return fields.output === undefined ? 'prompt' : 'sft'
  return fields.prompt !== undefined && !isAnswer(fields.completion) ? 'prompt' : 'sft'
}

/** Whether a value can be a completion: a text or messages. A number is what a reward function reads. */
const isAnswer = (value: unknown) =>
  typeof value === 'string' || Array.isArray(value) || (isObject(value) && !(value instanceof Number))
