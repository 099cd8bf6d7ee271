import { labelOf } from './columns.js'
import { isObject, type Origin } from './fields.js'
import { columnsOf } from './names.js'
import { exampleOf } from './rows.js'

/** Kinds of rows by the recipes that read them. */
export const ROW_KINDS = ['sft', 'preference', 'unpaired', 'prompt'] as const
export type RowKind = (typeof ROW_KINDS)[number]

/** The kind of a row by its columns: a row without a response is a prompt. Throws ERR_DATA. */
export function rowKindOf(row: unknown, origin: Origin): RowKind {
  const { fields, at } = columnsOf(row, origin)
  const { chosen, rejected, responses, messages, prompt, instruction, completion } = fields
  if ([chosen, rejected, responses].some((column) => column !== undefined)) return 'preference'
  const answered = messages ?? completion ?? fields.output
  if (answered !== undefined && labelOf(fields) !== undefined) return 'unpaired'
  if (messages !== undefined) {
    const example = exampleOf(fields, at)
    return example.kind === 'messages' && example.messages.at(-1)?.role !== 'assistant' ? 'prompt' : 'sft'
  }
  if (instruction !== undefined) return fields.output === undefined ? 'prompt' : 'sft'
  return prompt !== undefined && !isAnswer(completion) && fields.text === undefined ? 'prompt' : 'sft'
}

/** Whether a value can be a completion: a text or messages. A number is what a reward function reads. */
const isAnswer = (value: unknown) =>
  typeof value === 'string' || Array.isArray(value) || (isObject(value) && !(value instanceof Number))
