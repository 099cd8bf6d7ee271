import { PosttrainError } from '../../errors.js'
import type { Prefill } from '../rows/continuation.js'
import type { Message } from '../rows/messages.js'
import type { Guard } from './added-tokens.js'
import type { ChatTemplate, Conversation } from './chat.js'
import { type Layout, layoutOf, type MarkedLayout, type Piece } from './layout.js'
import { Renderer } from './renderer.js'
import type { Tokenizer } from './tokenizer.js'
import type { Turn } from './turns.js'
import { checkRendered, reasoningOf, type Unrendered } from './unrendered.js'

export type TrainOn = 'assistant' | 'lastAssistant' | 'all'

/** A piece of a rendered conversation, encoded by itself. */
export interface Segment {
  text: string
  /** Its tokens are labels. */
  trained: boolean
  /** Stretches of data, in which special tokens and turn markers are read as text. */
  guard: Guard
}

/** Options of `Template.segments`. */
export interface SegmentOptions {
  /** Turns whose tokens are labels: all of the assistant, the last one, or everything. Required. */
  trainOn: TrainOn
  /** The turn that began in the prompt; only what follows its beginning is trained. Optional. */
  prefill?: Prefill | undefined
  /** Writes the reasoning of the last turn behind the generation prompt where the template leaves it out. Defaults to `false`. */
  writeReasoning?: boolean
}

/** What a report counts of a rendered conversation. */
export interface ConversationCounts {
  /** A trained turn has only a part of the generation prompt. */
  partialPrompt: boolean
  /** The mark behind a trained turn is context, because generation would not stop at it. */
  unstopped: boolean
  /** Pieces of data that would be special tokens or turn markers if they were not read as text. */
  guarded: number
  /** Reasoning of a turn that the template left out. */
  droppedReasoning: boolean
  /** Text of a turn that the template left out, beside tool calls that it rendered. */
  droppedContent: boolean
  /** Definitions of tools that the template left out. */
  droppedTools: boolean
}

/** A conversation in pieces, in order, and what a report counts of it. */
export interface RenderedConversation {
  segments: Segment[]
  counts: ConversationCounts
}

/** Renders a conversation and splits it where responses begin and end. */
export function conversationOf(
  template: ChatTemplate,
  conversation: Conversation,
  tokenizer: Tokenizer,
  options: SegmentOptions,
): RenderedConversation {
  const { trainOn, prefill } = options
  const { messages } = conversation
  const renderer = new Renderer(template, conversation, tokenizer)
  const layout = renderer.layout(messages.length, false)
  const turns = renderer.turns(layout)
  if (prefill !== undefined) startAfter(prefill, template, conversation, tokenizer, layout, turns)
  const last = turns.at(-1)?.index
  const isTrained = (index: number) =>
    messages[index]?.train !== false && (trainOn !== 'lastAssistant' || index === last)
  const trained = turns.filter(({ index }) => isTrained(index))
  const all = trainOn === 'all'
  const left = checkRendered(template, conversation, layout, (index) => all || isTrained(index))
  const lost = trained.find(({ stretches }) => stretches === null)
  if (lost !== undefined) throw notFound(template, lost.index)
  const stretches = turns.flatMap(({ index, stretches }) =>
    (stretches ?? []).map((stretch) => ({ stretch, trained: isTrained(index) })),
  )
  const counts = countsOf(layout, trained, left)
  if (options.writeReasoning === true && left.reasoning && isTrained(messages.length - 1)) {
    const segments = withReasoning(template, conversation, tokenizer, layout, turns.at(-1)!)
    if (segments !== null) return { segments, counts: { ...counts, droppedReasoning: false } }
  }
  const ends = messages.at(-1)?.role === 'assistant' && turns.at(-1)?.stretches?.length
  return {
    segments: segmentsOf(layout, stretches, { all, to: ends ? stretches.at(-1)!.stretch[1] : null }),
    counts,
  }
}

const countsOf = (
  { guarded }: MarkedLayout,
  turns: readonly Turn[],
  { reasoning, content, tools }: Unrendered,
): ConversationCounts => ({
  partialPrompt: turns.some(({ partial }) => partial),
  unstopped: turns.some(({ unstopped }) => unstopped),
  guarded,
  droppedReasoning: reasoning,
  droppedContent: content,
  droppedTools: tools,
})

/** Cuts a text at stretches; what follows `to` is left out. */
function segmentsOf(
  { text, guard }: Pick<MarkedLayout, 'text' | 'guard'>,
  stretches: readonly { stretch: readonly [number, number]; trained: boolean }[],
  { all, to }: { all: boolean; to: number | null },
): Segment[] {
  const segments: Segment[] = []
  let [at, piece] = [0, 0]
  const add = (end: number, trained: boolean) => {
    if (end <= at) return
    const data: { from: number; to: number }[] = []
    while (piece < guard.data.length && guard.data[piece]!.to <= at) piece++
    for (let i = piece; i < guard.data.length && guard.data[i]!.from < end; i++)
      data.push({ from: guard.data[i]!.from - at, to: guard.data[i]!.to - at })
    segments.push({ text: text.slice(at, end), trained, guard: { ...guard, data } })
    at = end
  }
  for (const { stretch, trained } of stretches) {
    add(stretch[0], all)
    add(stretch[1], trained || all)
  }
  add(to ?? text.length, all)
  return segments
}

/** A rendered prompt: its text, and its segments for a tokenizer. */
export interface RenderedPrompt {
  text: string
  encoded(tokenizer: Tokenizer): { segments: Segment[]; guarded: number }
}

/** Renders a conversation up to the start of the response. */
export function promptOf(
  template: ChatTemplate,
  conversation: Conversation,
  tokenizer: Tokenizer | undefined,
): RenderedPrompt {
  const { messages } = conversation
  const continued = messages.at(-1)?.role === 'assistant'
  const { layout, end } = continued
    ? begunOf(template, conversation, tokenizer)
    : wholeOf(layoutOf(template.render(conversation, tokenizer, true), messages))
  return {
    text: layout.text.slice(0, end),
    encoded(of) {
      const renderer = new Renderer(template, conversation, of)
      const marked = renderer.marked(layout, !continued)
      checkRendered(template, conversation, marked, () => false)
      const turns = renderer.turns(marked)
      // The turn to continue has no end yet.
      const earlier = continued ? turns.filter(({ index }) => index < messages.length - 1) : turns
      const stretches = earlier.flatMap(({ stretches }) =>
        (stretches ?? []).map((stretch) => ({ stretch, trained: false })),
      )
      const { guarded } = marked
      return { segments: segmentsOf(marked, stretches, { all: false, to: end }), guarded }
    },
  }
}

const wholeOf = (layout: Layout) => ({ layout, end: layout.text.length })

/** Follows a content without characters of its own, to find where it would stand. */
const PROBE = 'x '

/**
 * Renders a conversation that a response continues, and finds the end of its last content, as `continue_final_message` of
 * transformers does (but that white space before a blank content stays). Throws ERR_DATA for a turn with tool calls, and
 * where the template leaves out a part of the content.
 */
function begunOf(
  template: ChatTemplate,
  conversation: Conversation,
  tokenizer: Tokenizer | undefined,
): { layout: Layout; end: number } {
  const { messages } = conversation
  const index = messages.length - 1
  const { contentParts: _, ...last } = messages[index]!
  if (last.tool_calls !== undefined)
    throw new PosttrainError(
      'ERR_DATA',
      `messages[${index}] has tool calls and cannot be continued: write the results of the tools behind it`,
    )
  const isBlank = last.content.trim() === ''
  const shown = isBlank
    ? [...messages.slice(0, -1), { ...last, content: last.content + PROBE } as Message]
    : messages
  const layout = layoutOf(template.render({ ...conversation, messages: shown }, tokenizer, false), shown)
  const { text, pieces } = layout
  const isOwn = ({ message, field }: Piece) => message === index && field === 'content'
  const own = pieces.findLast(isOwn)
  // Another message may quote the turn; a part of the turn, as a mark of reasoning, may be the template's.
  const first = pieces.findIndex(isOwn)
  const from = pieces.slice(0, Math.max(first, 0)).findLast(({ message }) => message !== index)?.to ?? 0
  if (own !== undefined && text.slice(from, own.to).includes(last.content.trim())) {
    const found = isBlank ? text.lastIndexOf(PROBE.trim(), own.to - 1) : own.to
    return { layout, end: found }
  }
  throw new PosttrainError(
    'ERR_DATA',
    `the ${template.name} template does not render messages[${index}].content as it is, so that it cannot be continued`,
  )
}

/** Leaves the prompt's part of a turn out of what is trained. */
function startAfter(
  { index, message }: Prefill,
  template: ChatTemplate,
  conversation: Conversation,
  tokenizer: Tokenizer,
  layout: MarkedLayout,
  turns: readonly Turn[],
): void {
  const messages = [...conversation.messages.slice(0, index), message]
  const { text } = promptOf(template, { ...conversation, messages }, tokenizer)
  if (!layout.text.startsWith(text)) {
    throw new PosttrainError(
      'ERR_DATA',
      `the ${template.name} template renders the beginning of messages[${index}].content otherwise when the rest follows, so that the completion cannot be told from it`,
    )
  }
  const turn = turns.find((each) => each.index === index)!
  turn.partial = false
  turn.stretches = (turn.stretches ?? [])
    .filter(([, to]) => to > text.length)
    .map(([from, to]) => [Math.max(from, text.length), to])
}

/** The prompt, and the last turn with its reasoning behind it; null without reasoning or content. */
function withReasoning(
  template: ChatTemplate,
  conversation: Conversation,
  tokenizer: Tokenizer,
  layout: MarkedLayout,
  { index, stretches }: Turn,
): Segment[] | null {
  const reasoning = reasoningOf(conversation.messages[index]!)
  const own = layout.pieces.find(({ message, field }) => message === index && field !== 'role')
  const end = stretches?.at(-1)?.[1]
  if (reasoning === null || own === undefined || end === undefined) return null
  const asked = { ...conversation, messages: conversation.messages.slice(0, index) }
  const prompt = promptOf(template, asked, tokenizer)
  const open = prompt.text.trimEnd().endsWith('<think>') ? '' : '<think>\n'
  const from = end - layout.text.slice(own.from, end).replace(/^\n+/, '').length
  const [response] = segmentsOf(layout, [{ stretch: [from, end], trained: true }], {
    all: false,
    to: end,
  }).slice(-1)
  if (response === undefined) return null
  const before = `${open}${reasoning}\n</think>\n\n`
  const data = [
    { from: open.length, to: open.length + reasoning.length },
    ...response.guard.data.map((each) => ({ from: each.from + before.length, to: each.to + before.length })),
  ]
  const text = before + response.text
  return [...prompt.encoded(tokenizer).segments, { text, trained: true, guard: { ...response.guard, data } }]
}

function notFound(template: ChatTemplate, index: number): PosttrainError {
  return new PosttrainError(
    'ERR_DATA',
    `the ${template.name} template renders messages[${index}] differently from the prompt of generation, so its mask cannot be found: mark the responses with {% generation %}, or leave the turn out with train: false`,
  )
}
