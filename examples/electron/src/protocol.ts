/** Messages between the page, the main process and the trainer: plain data with a `type`. */

export type ChatMessage = { role: 'user' | 'assistant'; content: string }

/** Options that the page offers. */
export interface TrainChoice {
  /** A model folder, or org/name on the Hub. */
  model: string
  /** A file of rows: .jsonl, .json or .txt. */
  data: string
  /** Run folder, new or to resume. */
  output: string
  resume: boolean
  epochs: number
  batchSize: number
  learningRate: number
  /** Trains a LoRA adapter only, which needs far less memory. */
  lora: boolean
}

/** From the page to the trainer. */
export type Command =
  | { type: 'train'; choice: TrainChoice }
  /** Finishes and saves the current step; with `now` drops it, so that the last checkpoint remains. */
  | { type: 'abort'; now: boolean }
  | { type: 'chat'; messages: ChatMessage[] }
  /** Ends the trainer's process after an abort. */
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
  /** Failure of a task, of a message that is not a command, or of the trainer's process, which then ends. */
  | { type: 'error'; during: 'train' | 'chat' | 'command' | 'process'; code: string; message: string }

/** One end of a channel that sends `Out` and receives `In`: a utility process, a forked one, a pair in a test. */
export interface Port<In, Out> {
  postMessage(message: Out): void
  on(event: 'message', listener: (message: In) => void): void
}

/** `window.trainer`, which the preload script exposes to the page. */
export interface Bridge {
  send(command: Command): void
  onReport(listener: (report: Report) => void): void
  /** Opens the system's dialog for a folder or file; null where none was chosen. */
  choose(what: 'model' | 'data' | 'output'): Promise<string | null>
}

const text = (value: unknown) => typeof value === 'string' && value !== ''
const positive = (value: unknown) => typeof value === 'number' && value > 0

/** Checks that a message is a command; main and trainer check everything that comes from a page. */
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
