/** What the page, the main process and the trainer say to each other: data alone, told apart by `type`. */

export type ChatMessage = { role: 'user' | 'assistant'; content: string }

/** What the page lets its user choose. */
export interface TrainChoice {
  /** A model folder, or org/name on the Hub. */
  model: string
  /** A file of rows: .jsonl, .json or .txt. */
  data: string
  /** The run folder, new or one to go on with. */
  output: string
  resume: boolean
  epochs: number
  batchSize: number
  learningRate: number
  /** Low-rank updates alone, which need far less memory. */
  lora: boolean
}

/** From the page to the trainer. */
export type Command =
  | { type: 'train'; choice: TrainChoice }
  /** The step under way is finished and saved; with `now` it is dropped, and the last checkpoint stays. */
  | { type: 'abort'; now: boolean }
  | { type: 'chat'; messages: ChatMessage[] }
  /** Ends the trainer's process, after what an abort does. */
  | { type: 'quit' }

/** From the trainer to the page. */
export type Report =
  | { type: 'ready' }
  | { type: 'start'; step: number; totalSteps: number; rows: number; trained: number; parameters: number }
  | { type: 'step'; step: number; loss: number; tokensPerSecond: number }
  | { type: 'evaluation'; step: number; loss: number }
  | { type: 'checkpoint'; step: number; path: string }
  | { type: 'warning'; step: number; message: string }
  /** Steps and the folder of the model or adapter; null where an abort with `now` left only the last checkpoint. */
  | { type: 'end'; reason: 'completed' | 'aborted'; steps: number | null; model: string | null }
  | { type: 'piece'; text: string }
  | { type: 'answered' }
  /** What failed: a task, a message that is no command, or the trainer's process, which then ends. */
  | { type: 'error'; during: 'train' | 'chat' | 'command' | 'process'; code: string; message: string }

/** One end of a channel that carries `Out` and brings `In`: a utility process, a forked one, a pair in a test. */
export interface Port<In, Out> {
  postMessage(message: Out): void
  on(event: 'message', listener: (message: In) => void): void
}

/** What the preload script gives to the page as `window.trainer`. */
export interface Bridge {
  send(command: Command): void
  onReport(listener: (report: Report) => void): void
  /** Asks for a folder or a file with the system's own dialog; null where none was chosen. */
  choose(what: 'model' | 'data' | 'output'): Promise<string | null>
}

const text = (value: unknown) => typeof value === 'string' && value !== ''
const positive = (value: unknown) => typeof value === 'number' && value > 0

/** Whether a message is a command, which main and trainer ask of everything that comes from a page. */
export function isCommand(message: unknown): message is Command {
  if (message === null || typeof message !== 'object' || !('type' in message)) return false
  const { type, choice, now, messages } = message as Record<string, unknown>
  switch (type as Command['type']) {
    case 'train': {
      const { model, data, output, resume, epochs, batchSize, learningRate, lora } = (choice ?? {}) as Record<
        string,
        unknown
      >
      return (
        [model, data, output].every(text) &&
        [epochs, batchSize, learningRate].every(positive) &&
        typeof resume === 'boolean' &&
        typeof lora === 'boolean'
      )
    }
    case 'abort':
      return typeof now === 'boolean'
    case 'chat':
      return (
        Array.isArray(messages) &&
        messages.every((one) => typeof one?.content === 'string' && ['user', 'assistant'].includes(one.role))
      )
    case 'quit':
      return true
    default:
      return false
  }
}
