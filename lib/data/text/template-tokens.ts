import { PosttrainError } from '../../errors.js'
import type { Message } from '../rows/messages.js'
import type { AddedMatch } from './added-tokens.js'
import type { ChatTemplate, Conversation, TemplateTokens } from './chat.js'
import { type Layout, layoutOf } from './layout.js'
import { ASKED, CALLED, RESULT } from './probes.js'
import type { Tokenizer } from './tokenizer.js'

const ANSWERED: Message[] = [...ASKED, { role: 'assistant', content: 'b' }]
const TWICE: Message[] = [...ANSWERED, { role: 'user', content: 'c' }, { role: 'assistant', content: 'd' }]
const INSTRUCTED: Message[] = [{ role: 'system', content: 's' }, ...ANSWERED]

/** Finds the tokens by which a template marks turns, by rendering short conversations. */
export function tokensOf(template: ChatTemplate, tokenizer: Tokenizer): TemplateTokens {
  const render = (conversation: Conversation, prompt = false) =>
    rendered(template, tokenizer, conversation, prompt)
  const [asked, plain] = [render({ messages: ASKED }, true), render({ messages: ASKED })]
  const prompt = asked === null ? '' : asked.text.slice(plain?.text.length ?? 0)
  const markers = new Set<number>()
  const mark = (found: readonly AddedMatch[]) => {
    for (const { id, special } of found) if (id !== null && !special) markers.add(id)
  }
  mark(tokenizer.added(prompt).slice(0, 1))
  for (const messages of [TWICE, INSTRUCTED]) {
    const layout = render({ messages })
    if (layout !== null) for (const gap of userGaps(layout, messages)) mark(tokenizer.added(gap))
  }
  const terminators = new Set<number>()
  const results: Conversation = { ...CALLED, messages: [...CALLED.messages, RESULT] }
  for (const conversation of [{ messages: ANSWERED }, CALLED]) {
    const layout = render(conversation)
    const last = layout === null ? null : lastMark(layout, tokenizer, markers, conversation)
    if (last !== null) terminators.add(last)
  }
  const layout = render(results)
  if (layout !== null) {
    const found = tokenizer.added(layout.text, { data: layout.pieces })
    const call = layout.pieces.findLast(({ message, field }) => message === 1 && field === 'tool_calls')
    const end = found.findLast(
      ({ id, end, start }) =>
        id !== null && terminators.has(id) && start >= (call?.to ?? 0) && end <= resultOf(layout),
    )
    // What opens the results of tools, behind the end of the turn that called them.
    if (end !== undefined) mark(found.filter(({ start }) => start >= end.end).slice(0, 1))
  }
  return { markers, terminators: [...terminators], prompt }
}

const resultOf = ({ pieces, text }: Layout) =>
  pieces.find(({ message, field }) => message === 2 && field === 'content')?.from ?? text.length

function rendered(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  conversation: Conversation,
  prompt: boolean,
): Layout | null {
  try {
    return layoutOf(template.render(conversation, tokenizer, prompt), conversation.messages)
  } catch (error) {
    // A template may refuse a conversation of the probe.
    if (error instanceof PosttrainError) return null
    throw error
  }
}

/** What the template writes before each message of the user or system. */
function userGaps({ text, pieces }: Layout, messages: readonly Message[]): string[] {
  return pieces.flatMap(({ from, message }, i) => {
    const role = messages[message]?.role
    return role === 'user' || role === 'system' ? [text.slice(pieces[i - 1]?.to ?? 0, from)] : []
  })
}

/** The mark that ends a conversation, behind its last message. */
function lastMark(
  layout: Layout,
  tokenizer: Tokenizer,
  markers: ReadonlySet<number>,
  { messages }: Conversation,
): number | null {
  const own = layout.pieces.findLast(({ message }) => message === messages.length - 1)
  if (own === undefined) return null
  const found = tokenizer.added(layout.text, { data: layout.pieces, markers })
  const last = found.findLast(
    ({ id, special, start }) => id !== null && (special || markers.has(id)) && start >= own.to,
  )
  return last?.id ?? null
}
