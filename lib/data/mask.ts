import { PosttrainError } from '../errors.js'
import type { Example } from './rows.js'
import type { Segment, Template, TrainOn } from './template.js'
import type { Tokenizer } from './tokenizer.js'

/** The label of a token that is not to be predicted. */
export const IGNORE_INDEX = -100

export interface EncodeOptions {
  maxLength: number
  trainOn: TrainOn
  overflow: 'truncate' | 'drop' | 'error'
}

/** A row as tokens. `labels[t]` is the token at t, or -100 where it is context; unshifted. */
export interface EncodedRow {
  inputIds: Int32Array
  labels: Int32Array
  weight: number
  truncated: boolean
  /** A stop token is among the labels. */
  stops: boolean
  /** Encoding the whole text at once would have given other ids. */
  jointDiffers: boolean
  emptyOutput: boolean
  doubleBos: boolean
}

/** Why a row gives nothing to train on. */
export type Dropped = 'tooLong' | 'noLabels' | 'empty'

/** The prompt's trailing spaces (U+0020) belong to the completion, as generation feeds the prompt without them. */
export function splitPrompt(prompt: string, completion: string): [string, string] {
  const kept = prompt.replace(/ +$/, '')
  return [kept, prompt.slice(kept.length) + completion]
}

function segmentsOf(
  example: Exclude<Example, { kind: 'text' }>,
  template: Template,
  tokenizer: Tokenizer,
  trainOn: TrainOn,
): Segment[] {
  if (example.kind === 'messages')
    return template.segments(example.messages, tokenizer, { trainOn, tools: example.tools })
  const [prompt, completion] = splitPrompt(example.prompt, example.completion)
  return [
    { text: tokenizer.guard(prompt), trained: trainOn === 'all' },
    { text: tokenizer.guard(completion) + (tokenizer.eosToken ?? ''), trained: true },
  ]
}

/**
 * Tokens and labels of one row. Text before a trained span and the span itself are encoded apart and put together, so
 * that the trained prefix is exactly what generation feeds and the first token of an answer always has a label.
 */
export function encodeRow(
  example: Exclude<Example, { kind: 'text' }>,
  tokenizer: Tokenizer,
  template: Template,
  options: EncodeOptions,
): EncodedRow | Dropped {
  const segments = segmentsOf(example, template, tokenizer, options.trainOn)
  const prefix = example.kind === 'completion' ? tokenizer.prefixIds : []
  const pieces = segments.map(({ text }) => tokenizer.encode(text, { allowSpecial: true }))
  const length = pieces.reduce((sum, piece) => sum + piece.length, prefix.length)
  if (length === 0) return 'empty'
  if (length > options.maxLength) {
    if (options.overflow === 'error') {
      throw new PosttrainError(
        'ERR_DATA',
        `a row of ${length} tokens is longer than maxLength ${options.maxLength}`,
      )
    }
    if (options.overflow === 'drop') return 'tooLong'
  }
  const inputIds = new Int32Array(length)
  const labels = new Int32Array(length).fill(IGNORE_INDEX)
  inputIds.set(prefix)
  let at = prefix.length
  for (const [i, piece] of pieces.entries()) {
    inputIds.set(piece, at)
    if (segments[i]?.trained === true) labels.set(piece, at)
    at += piece.length
  }
  const joint = tokenizer.encode(segments.map(({ text }) => text).join(''), { allowSpecial: true })
  const kept = Math.min(length, options.maxLength)
  const row = finish(
    inputIds.subarray(0, kept),
    labels.subarray(0, kept),
    example.weight,
    kept < length,
    tokenizer,
  )
  if (row === 'noLabels') return row
  return {
    ...row,
    jointDiffers:
      joint.length + prefix.length !== length || joint.some((id, k) => inputIds[prefix.length + k] !== id),
    emptyOutput: isEmptyOutput(example),
  }
}

/** Plain text for pre-training: every token is trained, an end of text closes it, long ones are cut into several. */
export function encodeText(
  example: Extract<Example, { kind: 'text' }>,
  tokenizer: Tokenizer,
  options: EncodeOptions,
): (EncodedRow | Dropped)[] {
  const body = tokenizer.encode(example.text)
  if (body.length === 0) return ['empty']
  const eos = tokenizer.eosId
  const ids = Int32Array.from([...tokenizer.prefixIds, ...body, ...(eos === null ? [] : [eos])])
  const rows: (EncodedRow | Dropped)[] = []
  for (let from = 0; from < ids.length; from += options.maxLength) {
    const piece = ids.slice(from, from + options.maxLength)
    const row = piece.length < 2 ? 'noLabels' : finish(piece, piece.slice(), example.weight, false, tokenizer)
    // One token alone predicts nothing; it is the end of a text whose rest was trained.
    if (row !== 'noLabels' || from === 0) rows.push(row)
  }
  return rows
}

function finish(
  inputIds: Int32Array,
  labels: Int32Array,
  weight: number,
  truncated: boolean,
  tokenizer: Tokenizer,
): EncodedRow | 'noLabels' {
  // The first token of a row has nothing before it that could predict it.
  let labelled = 0
  let stops = false
  for (let t = 1; t < labels.length; t++) {
    const label = labels[t]!
    if (label === IGNORE_INDEX) continue
    labelled++
    stops ||= tokenizer.isSpecial(label)
  }
  if (labelled === 0) return 'noLabels'
  const bos = tokenizer.bosId
  return {
    inputIds,
    labels,
    weight,
    truncated,
    stops,
    jointDiffers: false,
    emptyOutput: false,
    doubleBos: bos !== null && bos !== tokenizer.eosId && inputIds[0] === bos && inputIds[1] === bos,
  }
}

function isEmptyOutput(example: Exclude<Example, { kind: 'text' }>): boolean {
  if (example.kind === 'completion') return example.completion.trim() === ''
  return example.messages.some(
    ({ role, content, tool_calls: calls }) =>
      role === 'assistant' && content.trim() === '' && calls === undefined,
  )
}
