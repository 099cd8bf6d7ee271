import { bad, type Fields, type Origin } from '../fields.js'
import type { Step } from './parts.js'

/** A message in the form of chat templates, not checked yet, and the place that its errors name. */
export interface Placed {
  item: unknown
  at: string
}

/** Names of tools by the ids of their calls. */
export type ToolNames = Map<unknown, unknown>

interface Open {
  texts: unknown[]
  reasoning: string[]
  calls: unknown[]
  results: Placed[]
  /** Whether results stand in parts of their own, so that a call behind them is of another turn. */
  apart: boolean
  trains: Set<boolean | undefined>
  at: string
}

/** Puts what parts say into turns of the assistant and results of tools. */
export class TurnBuilder {
  readonly #messages: Placed[] = []
  readonly #origin: Origin
  readonly #names: ToolNames
  #open: Open | null = null

  constructor(origin: Origin, names: ToolNames) {
    this.#origin = origin
    this.#names = names
  }

  /** Whether the open turn has a text. */
  get hasText(): boolean {
    return (this.#open?.texts.length ?? 0) > 0
  }

  /** Adds a step of a message with the other fields `base`. */
  add(step: Step, at: string, base: Fields, train?: boolean): void {
    if (step.kind === 'break') {
      this.#flush(base)
      return
    }
    const answered = (this.#open?.results.length ?? 0) > 0
    const next = step.kind === 'call' ? this.#open?.apart === true : step.kind !== 'result'
    if (answered && next) this.#flush(base)
    const open = this.#opened(at)
    if (step.kind !== 'result') open.trains.add(train)
    switch (step.kind) {
      case 'text':
        if (step.text.trim() === '' && open.calls.length > 0) return
        if (open.calls.length > 0) throw this.#misplaced(at, 'text', 'calls')
        open.texts.push(step.part)
        return
      case 'reasoning':
        if (open.texts.length > 0 || open.calls.length > 0)
          throw this.#misplaced(at, 'reasoning', open.calls.length > 0 ? 'calls' : 'text')
        open.reasoning.push(step.text)
        return
      case 'call':
        if (step.id !== undefined) this.#names.set(step.id, step.name)
        open.calls.push(step.call)
        return
      case 'result':
        open.results.push({ item: this.#named(step.message), at })
        open.apart ||= !step.inline
        return
      default:
        throw step satisfies never
    }
  }

  /** Adds calls that are in the form of templates already to the open turn. */
  addCalls(calls: readonly unknown[], at: string): void {
    if (calls.length > 0) this.#opened(at).calls.push(...calls)
  }

  /** Ends the open turn and returns all messages. */
  end(base: Fields): Placed[] {
    this.#flush(base)
    return this.#messages
  }

  #opened(at: string): Open {
    const none = { texts: [], reasoning: [], calls: [], results: [] }
    this.#open ??= { ...none, apart: false, trains: new Set(), at }
    return this.#open
  }

  #flush(base: Fields): void {
    const open = this.#open
    this.#open = null
    if (open === null) return
    const { texts, reasoning, calls, results, trains, at } = open
    if (texts.length + reasoning.length + calls.length > 0) {
      const flags = new Set([...trains].map((train) => train ?? true))
      if (flags.size > 1) throw bad(this.#origin, at, 'begins a turn of which only one part is trained')
      if (texts.length + calls.length === 0)
        throw bad(this.#origin, at, 'is reasoning without a text or a call after it: leave it out')
      const [train] = trains
      const item = {
        ...base,
        role: 'assistant',
        content: texts.length > 0 ? texts : null,
        ...(reasoning.length > 0 && { reasoning_content: reasoning.join('\n\n') }),
        ...(calls.length > 0 && { tool_calls: calls }),
        ...(train !== undefined && { train }),
      }
      this.#messages.push({ item, at })
    }
    this.#messages.push(...results)
  }

  #named(message: Fields): Fields {
    const name = message.name ?? this.#names.get(message.tool_call_id)
    return name === undefined ? message : { ...message, name }
  }

  #misplaced(at: string, what: string, after: string) {
    return bad(
      this.#origin,
      at,
      `is ${what} after ${after} of the same turn, which templates cannot place: write the parts of each turn as a message of its own`,
    )
  }
}
