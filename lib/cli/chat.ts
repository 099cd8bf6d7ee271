import { createInterface } from 'node:readline/promises'
import { Command } from 'commander'
import type { Message } from '../data/rows/messages.js'
import { generateOptions } from '../generate/options.js'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { addFlags, readFlags } from './flags.js'
import { modelFields } from './machine.js'

const sampling = lazily(() => {
  const {
    logProbs: _logProbs,
    stopIds: _stopIds,
    rendered: _rendered,
    ...sampling
  } = generateOptions.schema().shape
  return sampling
})

const set = {
  name: 'chat',
  schema: lazily((z) =>
    z.object({
      model: option(z.string(), 'Folder of the model, or org/name on the Hub', text('DIR')),
      system: option(z.string().optional(), 'System prompt of the conversation', text('TEXT')),
      ...sampling(),
      ...modelFields(),
    }),
  ),
  conflicts: generateOptions.conflicts,
} satisfies OptionSet

/** `posttrain chat --model DIR`: a conversation, a line of stdin for each turn; an empty line or Ctrl-D ends it. */
export function chatCommand(): Command {
  const command = new Command('chat').description('Chat with a model; an empty line ends the conversation')
  return addFlags(command, set).action(async () => {
    const { options, given } = await readFlags(command, set)
    const { openModel } = await import('./open-model.js')
    const { chat } = await import('../generate/chat.js')
    const own = Object.fromEntries(Object.entries(given).filter(([name]) => name in sampling()))
    await using model = await openModel(options)
    const messages: Message[] = []
    if (options.system !== undefined) messages.push({ role: 'system', content: options.system })
    const terminal = process.stdin.isTTY === true
    const lines = createInterface({ input: process.stdin, output: process.stderr, terminal, prompt: '> ' })
    // Ctrl-C during a response ends the response; at the prompt, the conversation.
    let generating: AbortController | null = null
    const interrupt = () => (generating ? generating.abort() : lines.close())
    lines.on('SIGINT', interrupt)
    process.on('SIGINT', interrupt)
    try {
      if (terminal) lines.prompt()
      for await (const line of lines) {
        if (line.trim() === '') break
        messages.push({ role: 'user', content: line })
        generating = new AbortController()
        let content = ''
        try {
          for await (const piece of chat(model, messages, { ...own, signal: generating.signal })) {
            content += piece.text
            process.stdout.write(piece.text)
          }
        } catch (error) {
          if (!generating.signal.aborted) throw error
        }
        generating = null
        process.stdout.write('\n')
        messages.push({ role: 'assistant', content })
        if (terminal) lines.prompt()
      }
    } finally {
      process.off('SIGINT', interrupt)
      lines.close()
    }
  })
}
