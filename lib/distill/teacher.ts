import type { Message } from '../data/index.js'

export interface Question {
  messages: readonly Message[]
  /** The teacher's own where undefined. */
  temperature: number | undefined
  seed: number
  maxNewTokens: number
}

export interface Reply {
  text: string
  /** `refused`: the teacher declined, or a filter cut it. */
  finish: 'stop' | 'length' | 'refused'
  promptTokens: number
  completionTokens: number
}

/** A teacher: an endpoint, or a model in this process. */
export interface Teacher {
  readonly name: string
  /** Default temperature of answers; undefined: the teacher's own. */
  readonly temperature: number | undefined
  /** At temperature 0 it says the same again, so that asking again is of no use. */
  readonly repeats: boolean
  /**
   * One request. Throws a TeacherFailure for what concerns this request, PosttrainError for what will not be better
   * for any other, AbortError.
   */
  ask(question: Question, signal: AbortSignal): Promise<Reply>
  close(): Promise<void>
}

/**
 * Why a seed has no good answer. `transport`: busy, broken or silent, try later; `answer`: it came and is of no use,
 * ask again; `request`: refused as it stands, asking again is of no use.
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
