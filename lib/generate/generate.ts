import type { SessionHandle } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { is, needArgument } from '../arguments.js'
import type { Message, Tokenizer } from '../data/index.js'
import { chooseTemplate, encodePrompt } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import { CausalLM } from '../models/causal-lm.js'
import type { GenerateOptions } from './options.generated.js'
import { type CheckedOptions, checkOptions } from './sampling.js'
import { StopText } from './stop-text.js'

/**
 * A text, token ids, or messages for the chat template. A text is taken as rendered already, as `Template.prompt()` renders
 * it, unless the options name a `template` that puts it in a user turn.
 */
export type Prompt = string | Int32Array | readonly Message[]

/** `stop`: a stop id or stop text; `length`: maxNewTokens or the model's context. */
export type FinishReason = 'stop' | 'length'

export interface Completion {
  /** Without special tokens and without the stop text. */
  text: string
  /** All generated ids, the stop token included. */
  tokenIds: Int32Array
  finishReason: FinishReason
  /** Log-probability of each generated id, under softmax(logits / temperature); with `logProbs`. */
  logProbs?: Float32Array
}

/** New text and tokens of one prompt since its last piece. */
export interface Piece {
  /** Index of the prompt. */
  index: number
  text: string
  tokenIds: number[]
  /** Log-probability of each of tokenIds. */
  logProbs: number[]
  /** Set in the last piece of a prompt. */
  finishReason?: FinishReason
}

const PROMPT = { test: () => false, expected: 'a string, an Int32Array of ids' }

/** Decoding steps of one job: few enough to abort quickly, enough that the cost of a job does not matter. */
const STEPS = 8

/**
 * The prompts as input ids: a text is taken as training takes a string prompt of the same form. With a template of the
 * options, its terminator ends a completion too, unless they name the ids that do.
 */
async function promptsOf(
  model: CausalLM,
  prompts: readonly Prompt[],
  { template: choice, templateArguments, rendered, stopIds }: CheckedOptions,
  options: GenerateOptions,
): Promise<{ ids: Int32Array[]; stopIds: Int32Array }> {
  const { tokenizer } = model
  const turns = choice !== undefined && choice !== 'none'
  const chosen = await chooseTemplate(choice, model)
  const template = chosen.template.with({ arguments: templateArguments })
  const form = { tokenizer, template, strings: turns ? ('turn' as const) : ('raw' as const) }
  const ids = Array.from(prompts, (prompt, index) => {
    if (prompt instanceof Int32Array) return prompt
    if (typeof prompt === 'string')
      return encodePrompt({ text: prompt }, { ...form, rendered: rendered && !turns }).promptIds
    needArgument('generate', `prompt ${index}`, prompt, is.or(PROMPT, is.list))
    if (!turns && model.chatTemplate === null) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `prompt ${index} is a conversation and the model has no chat template: name a template, such as template 'plain'`,
      )
    }
    return template.promptIds({ messages: [...prompt] }, tokenizer)
  })
  const terminator = turns && options.stopIds === undefined ? template.terminator(tokenizer) : null
  const ends = terminator === null || stopIds.includes(terminator) ? [] : [terminator]
  return { ids, stopIds: Int32Array.from([...stopIds, ...ends]) }
}

/** Checks the prompts; returns for each the tokens that it may get, at most what the model's context leaves. */
function roomsOf(
  model: CausalLM,
  prompts: readonly Int32Array[],
  { maxNewTokens }: CheckedOptions,
): Int32Array {
  if (prompts.length === 0)
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'generate needs at least one prompt')
  const rooms = new Int32Array(prompts.length).fill(maxNewTokens)
  for (const [i, ids] of prompts.entries()) {
    if (ids.length === 0) throw new PosttrainError('ERR_INVALID_ARGUMENT', `prompt ${i} is empty`)
    const bad = ids.find((id) => id < 0 || id >= model.vocabSize)
    if (bad !== undefined) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `prompt ${i} has token ${bad}, outside the vocabulary of ${model.vocabSize}`,
      )
    }
    if (model.contextLength === null) continue
    const left = model.contextLength - ids.length
    if (left < 1) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `prompt ${i} has ${ids.length} tokens, which leaves no room in the model's context of ${model.contextLength}`,
      )
    }
    rooms[i] = Math.min(maxNewTokens, left)
  }
  return rooms
}

/** Decodes the tokens of one row and looks for stop texts. */
class RowStream {
  readonly #decoder
  readonly #stopText: StopText
  stopped = false

  constructor(tokenizer: Tokenizer, stop: readonly string[]) {
    this.#decoder = tokenizer.streamDecoder()
    this.#stopText = new StopText(stop)
  }

  push(id: number): string {
    const { text, stopped } = this.#stopText.push(this.#decoder.push(id))
    this.stopped = stopped
    return text
  }

  end(): string {
    const { text, stopped } = this.#stopText.push(this.#decoder.end())
    if (stopped) {
      this.stopped = true
      return text
    }
    return text + this.#stopText.end()
  }
}

/**
 * Generates a response to each prompt, `batchSize` of them together, and streams pieces of text; a piece never ends inside
 * a character, and has the log-probabilities of its tokens also without `logProbs`.
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT for options out of range, empty prompts and prompts longer than the
 * context; AbortError when `signal` aborts.
 */
export async function* stream(
  model: CausalLM,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<Piece, void> {
  needArgument('generate', 'the model', model, is.a(CausalLM, 'a CausalLM'))
  needArgument('generate', 'the prompts', prompts, is.list)
  const checked = checkOptions(model, options)
  const { ids, stopIds } = await promptsOf(model, prompts, checked, options)
  const { core, handle: role } = model.role
  const { stop, logProbs: _, template: _template, rendered: _rendered, signal, ...sampling } = checked
  const maxNewTokens = roomsOf(model, ids, checked)
  let session: SessionHandle | undefined
  try {
    session = await call(
      core,
      (cancel) => core.createSession(role, ids, { ...sampling, stopIds, maxNewTokens }, cancel),
      signal,
    )
    const handle = session
    const rows = ids.map(() => new RowStream(model.tokenizer, stop))
    const running = new Set(rows.keys())
    let first = true
    while (running.size > 0) {
      // Read anew: the session outlives the model, but a disposed role has no core, so dispose() ends the stream here.
      const { core } = model.role
      const step = await call(core, (cancel) => core.advance(handle, first ? 1 : STEPS, cancel), signal)
      first = false
      const pieces = new Map<number, Piece>()
      const ended: number[] = []
      for (const [i, row] of step.rows.entries()) {
        if (!running.has(row)) continue
        const id = step.ids[i]!
        const piece = pieces.get(row) ?? { index: row, text: '', tokenIds: [], logProbs: [] }
        pieces.set(row, piece)
        piece.tokenIds.push(id)
        piece.logProbs.push(step.logProbs[i]!)
        piece.text += rows[row]!.push(id)
        if (!rows[row]!.stopped) continue
        piece.finishReason = 'stop'
        running.delete(row)
        ended.push(row)
      }
      for (const { row, reason } of step.finished) {
        if (!running.delete(row)) continue
        const piece = pieces.get(row)!
        piece.text += rows[row]!.end()
        piece.finishReason = rows[row]!.stopped ? 'stop' : reason
      }
      if (ended.length > 0) await call(core, () => core.finish(handle, Int32Array.from(ended)))
      yield* pieces.values()
    }
  } finally {
    if (session !== undefined) await core.dispose(session)
  }
}

/**
 * Generates a completion of each prompt, in their order.
 *
 * ```ts
 * const [completion] = await generate(model, ['The capital of France is'], { maxNewTokens: 8 })
 * ```
 */
export async function generate(
  model: CausalLM,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): Promise<Completion[]> {
  needArgument('generate', 'the prompts', prompts, is.list)
  const rows = Array.from(prompts, () => ({
    text: '',
    tokenIds: [] as number[],
    logProbs: [] as number[],
    finishReason: 'length' as FinishReason,
  }))
  for await (const piece of stream(model, prompts, options)) {
    const row = rows[piece.index]!
    row.text += piece.text
    row.tokenIds.push(...piece.tokenIds)
    row.logProbs.push(...piece.logProbs)
    if (piece.finishReason !== undefined) row.finishReason = piece.finishReason
  }
  return rows.map(({ text, tokenIds, logProbs, finishReason }) => ({
    text,
    tokenIds: Int32Array.from(tokenIds),
    finishReason,
    ...(options.logProbs === true ? { logProbs: Float32Array.from(logProbs) } : {}),
  }))
}
