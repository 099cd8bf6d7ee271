import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { Command } from 'commander'
import { PosttrainError } from '../errors.js'
import type { GenerateOptions } from '../generate/options.generated.js'
import { generateOptions } from '../generate/options.js'
import type { CausalLM } from '../models/causal-lm.js'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { Conversation, HELP } from './conversation.js'
import { counted } from './counts.js'
import { addFlags, readFlags } from './flags.js'
import { modelFields } from './machine.js'
import { visible } from './visible.js'

const sampling = lazily((z) => {
  const {
    logProbs: _logProbs,
    stopIds: _stopIds,
    batchSize: _batchSize,
    rendered: _rendered,
    ...sampling
  } = generateOptions.schema().shape
  return {
    ...sampling,
    maxNewTokens: option(z.int().min(1).default(1024), 'Maximum length of an answer, in tokens'),
  }
})

const set = {
  name: 'chat',
  schema: lazily((z) =>
    z.object({
      model: option(z.string(), 'Folder of the model, or org/name on the Hub', text('DIR')),
      system: option(z.string().optional(), 'System prompt of the conversation', text('TEXT')),
      ...sampling(),
      stats: option(z.boolean().default(false), 'Show tokens per second after each answer'),
      ...modelFields(),
    }),
  ),
  conflicts: generateOptions.conflicts,
} satisfies OptionSet

/** The terminal of a chat, which keeps silent about what is typed while an answer is written. */
class PromptOutput extends Writable {
  isSilent = false
  readonly isTTY = process.stderr.isTTY

  get columns(): number {
    return process.stderr.columns ?? 80
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (!this.isSilent) process.stderr.write(chunk)
    done()
  }
}

/** `posttrain chat --model DIR`: a conversation on a terminal, or a line of piped stdin for each turn. */
export function chatCommand(): Command {
  const command = new Command('chat')
    .description('Chat with a model; /help lists the commands of a chat')
    .addHelpText('after', `\n${HELP}`)
  return addFlags(command, set).action(async () => {
    const { options, given } = await readFlags(command, set)
    const { openModel } = await import('./open-model.js')
    if (process.stdin.isTTY) process.stderr.write('Loading the model\n')
    await using model = await openModel(options)
    const own = Object.fromEntries(Object.entries(given).filter(([name]) => name in sampling()))
    await converse(model, new Conversation(options), { ...own, maxNewTokens: options.maxNewTokens })
  })
}

async function converse(model: CausalLM, talk: Conversation, own: GenerateOptions): Promise<void> {
  const terminal = process.stdin.isTTY === true
  const output = new PromptOutput()
  const lines = createInterface({ input: process.stdin, output, terminal })
  const say = (text: string) => process.stderr.write(`${visible(text, '\n')}\n`)
  const prompt = () => {
    output.isSilent = false
    lines.setPrompt(talk.isPartial ? '. ' : '> ')
    if (terminal) lines.prompt(true)
  }
  // Ctrl-C during an answer ends the answer; at the prompt, the conversation.
  let generating: AbortController | null = null
  const interrupt = () => (generating ? generating.abort() : lines.close())
  lines.on('SIGINT', interrupt)
  process.on('SIGINT', interrupt)
  try {
    if (terminal) say('/help lists the commands; Ctrl-D ends')
    prompt()
    for await (const line of lines) {
      const isCommand = !talk.isPartial && /^\s*\//.test(line)
      const text = isCommand ? line.trim() : talk.read(line)
      if (isCommand) {
        const answer = await talk.command(text!)
        if (answer === null) break
        say(answer)
      } else if (text !== null) {
        output.isSilent = true
        generating = new AbortController()
        await answer(model, talk, text, { ...own, signal: generating.signal })
        generating = null
      }
      prompt()
    }
    if (terminal) say('')
  } finally {
    process.off('SIGINT', interrupt)
    lines.close()
  }
}

/** Streams the answer to a question; what the model wrote so far stays where Ctrl-C ends it. */
async function answer(model: CausalLM, talk: Conversation, question: string, own: GenerateOptions) {
  const { chat } = await import('../generate/chat.js')
  talk.messages.push({ role: 'user', content: question })
  const options = { ...own, temperature: talk.temperature }
  const startedAt = performance.now()
  let [content, tokens, reason] = ['', 0, 'interrupted']
  try {
    for await (const { text, tokenIds, finishReason } of chat(model, talk.messages, options)) {
      content += text
      tokens += tokenIds.length
      reason = finishReason ?? reason
      process.stdout.write(process.stdout.isTTY ? visible(text, '\n\t') : text)
    }
  } catch (error) {
    if (!own.signal?.aborted) {
      // The question is not part of the conversation, so that another can be asked.
      talk.messages.pop()
      if (!(error instanceof PosttrainError) || !process.stdin.isTTY) throw error
      process.stderr.write(`${visible(error.message)}\n`)
      return
    }
  }
  process.stdout.write('\n')
  talk.messages.push({ role: 'assistant', content })
  const notes = [
    reason === 'length' ? `cut after ${tokens} tokens: --max-new-tokens allows more` : '',
    reason === 'interrupted' ? 'interrupted' : '',
    talk.showsStats
      ? `${counted(tokens, 'token')}, ${((tokens / (performance.now() - startedAt)) * 1000).toFixed(1)} tokens/s`
      : '',
  ].filter(Boolean)
  if (notes.length > 0) process.stderr.write(`[${notes.join('; ')}]\n`)
}
