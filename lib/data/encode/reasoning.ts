import { REASONING } from '../rows/content.js'
import type { Message } from '../rows/messages.js'
import type { Example } from '../rows/rows.js'
import { inlineReasoning } from '../text/unrendered.js'

/**
 * What becomes of the reasoning of assistant turns: what the template does with it, nothing of it is left, or each turn
 * is a row of its own that ends there, since templates render the reasoning of the last turn.
 */
export type Reasoning = 'template' | 'drop' | 'keep'

type Messages = Extract<Example, { kind: 'messages' }>

/** The rows that are made of an example. */
export function withReasoning<Row extends Example>(example: Row, reasoning: Reasoning = 'template'): Row[] {
  if (example.kind !== 'messages' || reasoning === 'template') return [example]
  return (reasoning === 'drop' ? [withoutReasoning(example)] : turnsOf(example)) as Row[]
}

function withoutReasoning(example: Messages): Messages {
  return {
    ...example,
    messages: example.messages.map((message): Message => {
      if (message.role !== 'assistant') return message
      const kept = Object.entries(message).filter(([name]) => !REASONING.includes(name))
      const content = inlineReasoning(message)?.rest.trimStart() ?? message.content
      return { ...(Object.fromEntries(kept) as Message), content }
    }),
  }
}

/** One row for each trained turn: the conversation up to it. */
function turnsOf(example: Messages): Messages[] {
  const { messages, prefill, ...rest } = example
  const ends = messages.flatMap(({ role, train }, i) => (role === 'assistant' && train !== false ? [i] : []))
  if (ends.length === 0) return [example]
  return ends.map((end) => ({
    ...rest,
    ...(prefill?.index === end && { prefill }),
    messages: messages
      .slice(0, end + 1)
      .map((message, i) =>
        i < end && message.role === 'assistant' ? { ...message, train: false } : message,
      ),
  }))
}
