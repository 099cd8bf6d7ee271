import { createHash } from 'node:crypto'
import { type Message, type RowSource, readPrompt } from '../data/index.js'
import { plainOf } from '../data/rows/exact-json.js'
import { bad, type Fields, fieldsOf, type Origin } from '../data/rows/fields.js'
import type { PromptContent } from '../data/rows/prompt-rows.js'
import { readRows } from '../data/sources.js'
import type { TemplateArguments } from '../data/text/template.js'
import { PosttrainError } from '../errors.js'
import type { DistilledRow } from './events.js'
import type { DistillMode, SeedSource } from './options.js'

/** Instruction of a row, and the row itself. */
export interface Seed {
  /** `<mode>-<hash of the question>`: independent of the position in the file. */
  id: string
  origin: string
  row: Fields
  /** Question, without the option systemPrompt. */
  messages: readonly Message[]
  /** Further variables of the teacher's template: `chat_template_kwargs` of the row. */
  templateArguments?: TemplateArguments
  /** Answers in the row, in mode rank. */
  responses: readonly string[] | null
}

export interface SeedSet {
  seeds: Seed[]
  duplicates: number
  badRows: number
}

export function seedId(mode: string, content: unknown): string {
  return `${mode}-${createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16)}`
}

/** Reads all seeds. Throws ERR_DATA with file and line for a bad one, or if there are none. */
export async function readSeeds(
  source: SeedSource,
  options: { mode: DistillMode; onBadRow: 'error' | 'skip' },
): Promise<SeedSet> {
  const seeds = new Map<string, Seed>()
  let [duplicates, badRows] = [0, 0]
  for await (const { row, exact = row, origin, failure } of readRows(source as RowSource)) {
    try {
      if (failure) throw failure
      const seed = readSeed(exact, row, origin, options.mode)
      if (seeds.has(seed.id)) duplicates++
      else seeds.set(seed.id, seed)
    } catch (error) {
      if (options.onBadRow === 'error' || !(error instanceof PosttrainError)) throw error
      badRows++
    }
  }
  if (seeds.size === 0) {
    const where = typeof source === 'string' ? source : 'the data'
    throw new PosttrainError('ERR_DATA', `distill: ${where} has no seeds (bad rows skipped: ${badRows})`)
  }
  return { seeds: [...seeds.values()], duplicates, badRows }
}

function readSeed(exact: unknown, row: unknown, origin: Origin, mode: DistillMode): Seed {
  const fields = fieldsOf(exact, origin)
  const asked: PromptContent = readPrompt(questionOf(fields) ?? exact, origin)
  if ('tools' in asked) throw bad(origin, 'tools', 'cannot be passed to a teacher: remove rows with tools')
  const said: readonly Message[] =
    'text' in asked ? [...(asked.earlier ?? []), { role: 'user', content: asked.text }] : asked.messages
  const messages = plainOf(said) as Message[]
  const last = messages.at(-1)!
  if (last.role !== 'user' || last.content.trim() === '') {
    throw bad(origin, 'the last message', 'must be a question with role user, not empty')
  }
  if (mode === 'extend' && typeof fields.instruction !== 'string' && !('text' in asked)) {
    throw bad(origin, 'messages', 'cannot be extended: expected instruction, prompt or text')
  }
  const responses = mode === 'rank' ? responsesOf(fields, origin) : null
  return {
    id: seedId(mode, [
      messages.map(({ role, content }) => [role, content]),
      responses,
      ...(asked.templateArguments === undefined ? [] : [asked.templateArguments]),
    ]),
    origin: `${origin.source}:${origin.line}`,
    row: row as Fields,
    messages,
    ...(asked.templateArguments !== undefined && {
      templateArguments: plainOf(asked.templateArguments) as TemplateArguments,
    }),
    responses,
  }
}

/** The prompt of a row whose `text` is the question, as a paragraph of a .txt file; null for other rows. */
function questionOf({ text, system, tools, chat_template_kwargs: given }: Fields): Fields | null {
  if (typeof text !== 'string') return null
  return {
    prompt: text,
    ...(system !== undefined && { system }),
    ...(tools !== undefined && { tools }),
    ...(given !== undefined && { chat_template_kwargs: given }),
  }
}

/** Answers in `responses`, or in `chosen` and `rejected`; null if the row has neither. */
function responsesOf(fields: Fields, origin: Origin): string[] | null {
  const pair = fields.chosen !== undefined || fields.rejected !== undefined
  const given = pair ? [fields.chosen, fields.rejected] : fields.responses
  if (given === undefined) return null
  const expected = 'must be at least two different answers, none empty'
  const field = pair ? 'chosen and rejected' : 'responses'
  const texts = Array.isArray(given) ? given.map(answerText) : []
  if (texts.some((text) => text === null || text.trim() === '')) throw bad(origin, field, expected)
  const different = [...new Set(texts as string[])]
  if (different.length < 2) throw bad(origin, field, expected)
  return different
}

/** Text of an answer: a string, an assistant message, or a list of one message. */
function answerText(answer: unknown): string | null {
  const message = Array.isArray(answer) && answer.length === 1 ? answer[0] : answer
  const text = typeof message === 'object' && message !== null ? (message as Fields).content : message
  return typeof text === 'string' ? text : null
}

/** An instruction and its input, as shown to the teacher and compared. */
export interface Instruction {
  instruction: string
  input: string
}

export function instructionOf({ row, messages }: Seed): Instruction {
  return typeof row.instruction === 'string'
    ? { instruction: row.instruction, input: typeof row.input === 'string' ? row.input : '' }
    : { instruction: messages.at(-1)!.content, input: '' }
}

/** Adds the teacher's answer to the seed's row: { instruction, input?, output }, or its messages and one more. */
export function answerRow(seed: Seed, output: string): DistilledRow {
  if (typeof seed.row.instruction === 'string') return { ...seed.row, output, seedId: seed.id }
  const { prompt, text, completion: _c, messages: _m, conversations: _s, ...columns } = seed.row
  if (typeof prompt === 'string' || typeof text === 'string') {
    return { ...columns, instruction: prompt ?? text, output, seedId: seed.id }
  }
  const messages = [...seed.messages, { role: 'assistant', content: output }]
  return { ...columns, messages, seedId: seed.id }
}

/** Prompt and further columns of a seed, as the start of a preference row. */
export function promptColumns({ row, messages }: Seed): Record<string, unknown> {
  const columns = { ...row }
  for (const name of PROMPT_COLUMNS) delete columns[name]
  return { ...columns, prompt: typeof row.prompt === 'string' ? row.prompt : messages }
}

const PROMPT_COLUMNS = [
  ...['instruction', 'input', 'output', 'history', 'system', 'messages', 'conversations', 'text'],
  ...['completion', 'responses', 'chosen', 'rejected', 'margin'],
]
