import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import type { Message } from '../../lib/data/index.js'
import { readRow, Template, Tokenizer } from '../../lib/data/index.js'
import type { Rendering } from '../../lib/data/text/jinja/rendering.js'
import { PosttrainError } from '../../lib/errors.js'

const FOLDER = join('test', 'fixtures', 'templates')

/** Forms of calls: arguments as JSON text, null in place of an empty content. */
const FORMS = ['text', 'null', 'text and null'] as const

export interface Row {
  messages: Message[]
  tools?: unknown[]
  arguments?: Record<string, unknown>
}

/** What transformers renders of a conversation, and what is trained of it; null where it refuses, or is not known. */
interface Expected {
  text: string | null
  prompt: string | null
  /** The conversation up to the end of its last content, where that is the assistant's. */
  continued: string | null
  trained: { stretches: [number, number][]; partial?: boolean; unstopped?: boolean } | null
  /** The same of rows that have the arguments of their calls as JSON text, or no content beside them, where it differs. */
  forms?: Partial<Record<(typeof FORMS)[number], Expected>>
}

export interface TemplateFixture {
  name: string
  source?: string
  /** Whether it has `{% generation %}`. */
  tagged: boolean
  special: string[]
  plain: string[]
  bos: string
  eos: string
  rows: Expected[]
}

const rowsOf = (name: string) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as Row[]

export const conversations = rowsOf('conversations.json')

/** Further conversations, which the templates of the installed TRL are compared with on demand. */
export const moreConversations = rowsOf('more-conversations.json')

const tokenizerJson = readFileSync(join('test', 'fixtures', 'masks', 'tokenizer.json'), 'utf8')

/** The small tokenizer of test/fixtures/masks with the added tokens of a template. */
export function tokenizerOf({ special, plain, bos, eos }: TemplateFixture): Tokenizer {
  const json = JSON.parse(tokenizerJson) as { added_tokens: { id: number; content: string }[] }
  const known = new Set(json.added_tokens.map(({ content }) => content))
  let id = 1000
  const add = (content: string, isSpecial: boolean) => {
    if (known.has(content)) return
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false }
    json.added_tokens.push({ id: id++, content, ...flags, special: isSpecial } as never)
  }
  for (const content of special) add(content, true)
  for (const content of plain) add(content, false)
  const config = { ...(bos !== '' && { bos_token: bos }), eos_token: eos, pad_token: eos }
  return Tokenizer.fromFiles({
    tokenizerJson: JSON.stringify(json),
    tokenizerConfig: JSON.stringify(config),
  })
}

const merged = (stretches: readonly [number, number][]) => {
  const out: [number, number][] = []
  for (const [from, to] of stretches) {
    if (to <= from) continue
    const last = out.at(-1)
    if (last !== undefined && last[1] === from) last[1] = to
    else out.push([from, to])
  }
  return out
}

const holds = (stretches: readonly [number, number][], at: number) =>
  stretches.some(([from, to]) => from <= at && at < to)

/** Parts of a text in some of its stretches and not in others. */
function only(
  text: string,
  some: readonly [number, number][],
  others: readonly [number, number][],
): { from: number; text: string }[] {
  const found: { from: number; text: string }[] = []
  for (let at = 0; at < text.length; at++) {
    if (!holds(some, at) || holds(others, at)) continue
    const last = found.at(-1)
    if (last !== undefined && last.from + last.text.length === at) last.text += text[at]!
    else found.push({ from: at, text: text[at]! })
  }
  return found
}

/**
 * Where stretches are unlike what `{% generation %}` marks, but for the terminator right behind a marked stretch and for white
 * space behind a terminator that it holds.
 */
function unlikeTags(
  { special, plain }: TemplateFixture,
  text: string,
  ours: readonly [number, number][],
  marked: readonly [number, number][],
): string[] {
  const isMark = (part: string) => special.includes(part) || plain.includes(part)
  const endsWithMark = (at: number) => [...special, ...plain].some((mark) => text.slice(0, at).endsWith(mark))
  const missing = only(text, marked, ours).filter(
    ({ from, text }) => text.trim() !== '' || !endsWithMark(from),
  )
  const added = only(text, ours, marked).filter(
    ({ from, text }) => !isMark(text.trimStart()) || !marked.some(([, to]) => to === from),
  )
  return [...missing, ...added].map((part) => part.text)
}

/** Counts of what a template was compared in. */
export interface Compared {
  texts: number
  prompts: number
  continued: number
  masks: number
  /** Conversations that hold what the template leaves out, which is an error. */
  leftOut: number
  /** Conversations that ours refuses to continue: the template drops the content, which another message has too. */
  quoted: number
  /** Conversations in other forms of their calls. */
  forms: number
}

/** Compares all conversations with what transformers renders and trains. */
export function compare(
  t: ExecutionContext,
  fixture: TemplateFixture,
  source: string,
  rows: readonly Row[] = conversations,
): Compared {
  const tokenizer = tokenizerOf(fixture)
  const template = Template.fromSource(source, fixture.name).with({ now: new Date(2026, 0, 2, 3, 4, 5) })
  const counts = { texts: 0, prompts: 0, continued: 0, masks: 0, leftOut: 0, quoted: 0, forms: 0 }
  const comparison = { t, fixture, template, tokenizer, counts }
  for (const [i, expected] of fixture.rows.entries()) {
    const row = rows[i]!
    const name = `${fixture.name}, conversation ${i}`
    compareRow(comparison, row, expected, name)
    if (!row.messages.some(({ tool_calls: calls }) => calls !== undefined)) continue
    for (const form of FORMS) {
      counts.forms++
      compareRow(comparison, inForm(row, form), expected.forms?.[form] ?? expected, `${name}, ${form}`)
    }
  }
  return counts
}

/** A row in a form, as it is read. */
function inForm(row: Row, form: (typeof FORMS)[number]): Row {
  const messages = row.messages.map((message) => {
    const { tool_calls: calls, content } = message
    if (!Array.isArray(calls)) return message
    const written = (calls as { function: { arguments: object } }[]).map((call) => ({
      ...call,
      function: { ...call.function, arguments: pythonJson(call.function.arguments) },
    }))
    return {
      ...message,
      ...(form !== 'null' && { tool_calls: written }),
      ...(form !== 'text' && content === '' && { content: null }),
    }
  })
  // Without the tools, by which null arguments are told from those that a table puts in.
  const read = readRow({ messages }, { source: 'conversations.json', line: 1 })
  if (read.kind !== 'messages') throw new Error('a conversation expected')
  return { ...row, messages: read.messages }
}

/** JSON with Python's spaces. */
function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{${Object.entries(value)
    .map(([key, item]) => `${JSON.stringify(key)}: ${pythonJson(item)}`)
    .join(', ')}}`
}

interface Comparison {
  t: ExecutionContext
  fixture: TemplateFixture
  template: Template
  tokenizer: Tokenizer
  counts: Compared
}

function compareRow(
  { t, fixture, template, tokenizer, counts }: Comparison,
  row: Row,
  expected: Expected,
  name: string,
): void {
  const given = {
    messages: row.messages,
    ...(row.tools !== undefined && { tools: row.tools }),
    ...(row.arguments !== undefined && { templateArguments: row.arguments }),
  }
  const attempt = <T>(compute: () => T): T | null => {
    try {
      return compute()
    } catch (error) {
      if (error instanceof PosttrainError && error.code === 'ERR_DATA') return null
      throw error
    }
  }
  const rendering = attempt(() => template.render(given, tokenizer, false))
  t.is(rendering?.text ?? null, expected.text, name)
  counts.texts++
  const before = row.messages.slice(0, row.messages.at(-1)!.role === 'assistant' ? -1 : undefined)
  if (before.length > 0 && before.at(-1)!.role !== 'assistant') {
    const prompt = attempt(() => template.render({ ...given, messages: before }, tokenizer, true))
    t.is(prompt?.text ?? null, expected.prompt, `${name}: prompt`)
    counts.prompts++
  }
  // A turn with tool calls is not continued.
  if (row.messages.at(-1)!.role === 'assistant' && row.messages.at(-1)!.tool_calls === undefined) {
    const begun = attempt(() => template.prompt(given, tokenizer))
    // White space before a blank content stays, since it is part of the prompt of generation.
    const isBlank = row.messages.at(-1)!.content.trim() === ''
    const shown = (text: string | null) => (isBlank ? (text?.trimEnd() ?? null) : text)
    // Of a content that is a mark alone transformers takes the template's own.
    const isMark = begun === null && /^(<\/?think>\s*)+$/.test(row.messages.at(-1)!.content.trim())
    if (isMark || isQuoted(rendering, expected.continued, row)) {
      t.is(begun, null, `${name}: continued`)
      counts.quoted++
    } else t.is(shown(begun), shown(expected.continued), `${name}: continued`)
    counts.continued++
  }
  if (rendering === null) return
  let row_: ReturnType<Template['segments']>
  try {
    row_ = template.segments(given, tokenizer, { trainOn: 'assistant' })
  } catch (error) {
    const { message } = error as Error
    t.regex(message, /does not render/, name)
    assertLeftOut(t, message, row, rendering.text, name)
    counts.leftOut++
    return
  }
  const stretches: [number, number][] = []
  let at = 0
  for (const { text, trained } of row_.segments) {
    t.is(rendering.text.slice(at, at + text.length), text)
    if (trained) stretches.push([at, at + text.length])
    at += text.length
  }
  for (const { from, to, origin } of rendering.runs) {
    const [root, index] = origin?.path ?? []
    const foreign =
      root === 'messages' ? row.messages[index as number]!.role !== 'assistant' : root === 'tools'
    if (!foreign) continue
    for (const [start, end] of stretches)
      t.false(
        from < end && to > start,
        `${name}: a stranger's text is trained: ${rendering.text.slice(from, to)}`,
      )
  }
  if (expected.trained === null) return
  counts.masks++
  const shown = (of: readonly [number, number][]) =>
    merged(of).map(([from, to]) => ({ from, text: rendering.text.slice(from, to) }))
  if (fixture.tagged) {
    t.deepEqual(unlikeTags(fixture, rendering.text, stretches, expected.trained.stretches), [], name)
    return
  }
  t.deepEqual(shown(stretches), shown(expected.trained.stretches), name)
  t.is(row_.counts.partialPrompt, expected.trained.partial!, `${name}: partial`)
  t.is(row_.counts.unstopped, expected.trained.unstopped!, `${name}: unstopped`)
}

/**
 * Whether the content that transformers continues stands in another message alone: it looks for it in the whole text, and
 * the template drops it from the last turn.
 */
function isQuoted(rendering: Rendering | null, continued: string | null, { messages }: Row): boolean {
  const content = messages.at(-1)!.content.trim()
  if (rendering === null || continued === null || content === '') return false
  const others = rendering.runs.filter(
    ({ origin }) => origin?.path[0] === 'messages' && origin.path[1] !== messages.length - 1,
  )
  const end = others.at(-1)?.to ?? 0
  return continued.slice(0, end).includes(content) && !continued.slice(end).includes(content)
}

/** Asserts that what an error names is indeed not in the text. */
function assertLeftOut(t: ExecutionContext, message: string, row: Row, text: string, name: string): void {
  const [, index, field] = /messages\[(\d+)\]\.(\w+)/.exec(message) ?? []
  if (index === undefined) {
    const [tool] = row.tools as { function: { description: string } }[]
    t.false(text.includes(tool!.function.description), name)
    return
  }
  const said = row.messages[Number(index)]!
  if (field === 'content') {
    // Other messages may say a short text too, and a template may write tags.
    const words = said.content.replace(/<[^>]*>/g, '').trim()
    t.false(text.includes(words) && words.length > 4, name)
    return
  }
  const [call] = said.tool_calls as { function: { name: string } }[]
  t.true(text.split(call!.function.name).length <= 2 || row.tools !== undefined, name)
}
