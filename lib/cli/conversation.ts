import type { Message } from '../data/rows/messages.js'
import { PosttrainError } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'

/** Help of a chat. */
export const HELP = `/help            Show this
/clear           Forget the conversation; the system prompt stays
/system TEXT     Set the system prompt; without TEXT, remove it
/undo            Forget the last question and its answer
/save FILE       Write the conversation as a row with messages
/temperature X   Sampling temperature; 0 is greedy
/stats           Show tokens and tokens per second after each answer, or no more
/exit            End, as Ctrl-D does
A line that ends with \\ goes on in the next one.
""" begins and ends a text of several lines.
Ctrl-C ends an answer.`

/** A conversation, and what its commands change. */
export class Conversation {
  readonly messages: Message[] = []
  temperature: number
  showsStats: boolean
  #pending: string[] | null = null
  /** Inside of """. */
  #isBlock = false

  constructor({
    system,
    temperature,
    stats,
  }: { system?: string | undefined; temperature: number; stats: boolean }) {
    this.temperature = temperature
    this.showsStats = stats
    if (system !== undefined) this.messages.push({ role: 'system', content: system })
  }

  /** True while the lines so far are only a part of a text. */
  get isPartial(): boolean {
    return this.#pending !== null
  }

  /** Adds a line; returns the whole text at its last one, and null for a part of a text or an empty one. */
  read(line: string): string | null {
    if (this.#pending === null && line.trimStart().startsWith('"""')) {
      this.#isBlock = true
      this.#pending = []
      line = line.trimStart().slice(3)
      if (line === '') return null
    }
    const begun = this.#pending ?? []
    const isLast = this.#isBlock ? line.trimEnd().endsWith('"""') : !line.endsWith('\\')
    const text = isLast && this.#isBlock ? line.trimEnd().slice(0, -3) : isLast ? line : line.slice(0, -1)
    if (!isLast) {
      this.#pending = [...begun, this.#isBlock ? line : text]
      return null
    }
    this.#pending = null
    this.#isBlock = false
    const whole = [...begun, text].join('\n').replace(/\n$/, '')
    return whole.trim() === '' ? null : whole
  }

  /** Does a command such as `/clear`; returns what to say, or null to end. */
  async command(line: string): Promise<string | null> {
    const [, name, rest = ''] = /^\/(\S*)\s*([\s\S]*)$/.exec(line) ?? []
    const first = this.messages[0]?.role === 'system' ? 1 : 0
    switch (name) {
      case 'help':
        return HELP
      case 'clear':
        this.messages.splice(first)
        return 'The conversation is forgotten'
      case 'system':
        this.messages.splice(0, first, ...(rest === '' ? [] : [{ role: 'system' as const, content: rest }]))
        return rest === '' ? 'No system prompt' : 'System prompt set'
      case 'undo':
        if (this.messages.length <= first) return 'There is nothing to undo'
        this.messages.splice(this.messages.findLastIndex(({ role }) => role === 'user'))
        return 'The last question and its answer are forgotten'
      case 'save':
        return await this.#save(rest)
      case 'temperature': {
        const value = Number(rest)
        if (rest === '' || !(value >= 0) || !Number.isFinite(value))
          return '/temperature needs a number of at least 0'
        this.temperature = value
        return `Temperature ${value}`
      }
      case 'stats':
        this.showsStats = !this.showsStats
        return this.showsStats ? 'Statistics after each answer' : 'No statistics'
      case 'exit':
      case 'quit':
        return null
      default:
        return `There is no command /${name}: /help lists them`
    }
  }

  async #save(path: string): Promise<string> {
    if (path === '') return '/save needs a file: /save chat.jsonl'
    try {
      await writeFileAtomic(path, `${JSON.stringify({ messages: this.messages })}\n`)
      return `Saved in ${path}`
    } catch (error) {
      if (error instanceof PosttrainError) return error.message
      throw error
    }
  }
}
