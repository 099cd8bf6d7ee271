import type { Message } from '../data/index.js'
import type { TemplateArguments } from '../data/text/template.js'

export interface Question {
  messages: readonly Message[]
  /** Further variables of the teacher's chat template. */
  templateArguments: TemplateArguments
  /** Sampling temperature; undefined: the teacher's default. */
  temperature: number | undefined
  seed: number
  maxNewTokens: number
}

export interface Reply {
  text: string
  /** `refused`: the teacher declined, or a content filter ended the answer. */
  finish: 'stop' | 'length' | 'refused'
  promptTokens: number
  completionTokens: number
}

/** A teacher: an endpoint, or a model in this process. */
export interface Teacher {
  readonly name: string
  /** Default temperature of answers; undefined: that of the endpoint. */
  readonly temperature: number | undefined
  /** True if answers at temperature 0 repeat, so that a retry is useless. */
  readonly repeats: boolean
  /**
   * Sends one request. Throws a TeacherFailure for a problem of this request, PosttrainError for one that every request
   * would have, AbortError.
   */
  ask(question: Question, signal: AbortSignal): Promise<Reply>
  close(): Promise<void>
}

/**
 * Reason why a seed has no usable answer. `transport`: the server is busy, broken or silent, retry later; `answer`: the
 * answer is unusable, retry; `request`: the request was refused, a retry is useless.
 */
export class TeacherFailure extends Error {
  readonly kind: 'transport' | 'answer' | 'request'
  /** Delay that the endpoint asks for. */
  readonly retryAfterMs: number | undefined

  constructor(kind: TeacherFailure['kind'], message: string, retryAfterMs?: number) {
    super(message)
    this.kind = kind
    this.retryAfterMs = retryAfterMs
  }
}
