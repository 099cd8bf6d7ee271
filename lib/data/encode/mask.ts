import { IGNORE_INDEX } from '../../addon/training.js'
import { PosttrainError } from '../../errors.js'
import { splitPrompt } from '../rows/prompt-rows.js'
import type { Example } from '../rows/rows.js'
import type { ConversationCounts, Segment, TrainOn } from '../text/conversation.js'
import { IdList } from '../text/id-list.js'
import type { Template } from '../text/template.js'
import type { Tokenizer } from '../text/tokenizer.js'

import { boundaryDiffers } from './boundary.js'
import type { Reasoning } from './reasoning.js'

/** Whether a label counts in a loss: it is not `ignoreIndex`, and not that of the first token of a document. */
export function isPredicted(
  labels: Int32Array,
  t: number,
  documentStart: number,
  ignoreIndex: number = IGNORE_INDEX,
): boolean {
  return t > documentStart && labels[t] !== ignoreIndex
}

export interface EncodeOptions {
  maxLength: number
  trainOn: TrainOn
  overflow: 'truncate' | 'drop' | 'error'
  /** What becomes of the reasoning of assistant turns; default: what the template does. */
  reasoning?: Reasoning | undefined
}

/** A row as tokens. `labels[t]` is the token at t, or IGNORE_INDEX where it is not trained; not shifted. */
export interface RowTokens {
  inputIds: Int32Array
  labels: Int32Array
  weight: number
}

/** A row as tokens, with its flags for the report. */
export interface EncodedRow extends RowTokens {
  truncated: boolean
  /** A stop token is among its labels. */
  stops: boolean
  /** Encoding the whole text at once would give other ids. */
  jointDiffers: boolean
  emptyOutput: boolean
  doubleBos: boolean
  /** What the rendering of a conversation showed; null for rows without a template. */
  conversation: ConversationCounts | null
}

/** Why a row was dropped. */
export type Dropped = 'tooLong' | 'noLabels' | 'empty'

function renderedOf(
  example: Exclude<Example, { kind: 'text' }>,
  template: Template,
  tokenizer: Tokenizer,
  options: EncodeOptions,
): { segments: Segment[]; counts: ConversationCounts | null } {
  const { trainOn } = options
  if (example.kind === 'messages') {
    const writeReasoning = options.reasoning === 'keep'
    return template.segments(example, tokenizer, { trainOn, prefill: example.prefill, writeReasoning })
  }
  const rendered = example.rendered === true
  const [prompt, completion] = rendered
    ? [example.prompt, example.completion]
    : splitPrompt(example.prompt, example.completion)
  const guardOf = ({ length }: string) => ({ data: rendered ? [] : [{ from: 0, to: length }] })
  const end = rendered && tokenizer.endsWithSpecial(completion.trimEnd()) ? '' : (tokenizer.eosToken ?? '')
  return {
    segments: [
      { text: prompt, trained: trainOn === 'all', guard: guardOf(prompt) },
      { text: completion + end, trained: true, guard: guardOf(completion) },
    ],
    counts: null,
  }
}

/**
 * Ids that the tokenizer puts before a text, a BOS token for some families; none before a rendered text that begins with
 * a special token of its own.
 */
export function textPrefix(text: string, rendered: boolean, tokenizer: Tokenizer): readonly number[] {
  return rendered && tokenizer.firstSpecial(text)?.start === 0 ? [] : tokenizer.prefixIds
}

/** Input ids of a raw prompt: exactly those before the completion in training. */
export function rawPromptIds(prompt: string, rendered: boolean, tokenizer: Tokenizer): Int32Array {
  const text = rendered ? prompt : splitPrompt(prompt, '')[0]
  const ids = tokenizer.encode(text, { allowSpecial: rendered, first: true })
  return Int32Array.from([...textPrefix(text, rendered, tokenizer), ...ids])
}

/**
 * Encodes a row to tokens and labels. Trained spans and the text before them are encoded separately, so that the prompt
 * has exactly the ids that generation feeds, and the first token of a response always has a label.
 */
export function encodeRow(
  example: Exclude<Example, { kind: 'text' }>,
  tokenizer: Tokenizer,
  template: Template,
  options: EncodeOptions,
): EncodedRow | Dropped {
  const { segments, counts } = renderedOf(example, template, tokenizer, options)
  const prefix =
    example.kind === 'completion'
      ? textPrefix(example.prompt, example.rendered === true, tokenizer)
      : template.prefixIds(tokenizer)
  const pieces = segments.map(({ text, guard }, i) => {
    const ids = new IdList(options.maxLength)
    tokenizer.encodeInto(ids, text, { guard, first: i === 0 })
    return ids
  })
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
  const kept = Math.min(length, options.maxLength)
  const inputIds = new Int32Array(kept)
  const labels = new Int32Array(kept).fill(IGNORE_INDEX)
  inputIds.set(prefix.slice(0, kept))
  let at = prefix.length
  for (const [i, piece] of pieces.entries()) {
    if (at >= kept) break
    const ids = piece.finish().subarray(0, kept - at)
    inputIds.set(ids, at)
    if (segments[i]?.trained === true) labels.set(ids, at)
    at += ids.length
  }
  const stopIds = stopIdsOf(tokenizer, example.kind === 'messages' ? template : null)
  const row = finish(inputIds, labels, example.weight, kept < length, tokenizer, stopIds)
  if (row === 'noLabels') return row
  return {
    ...row,
    jointDiffers: segments.some(
      (segment, i) => i > 0 && boundaryDiffers(segments[i - 1]!, segment, tokenizer, { first: i === 1 }),
    ),
    emptyOutput: isEmptyOutput(example),
    conversation: counts,
  }
}

/** Token ids that end a response in rows of this template (null: of prompt and completion). */
export function stopIdsOf(tokenizer: Tokenizer, template: Template | null): number[] {
  const terminators = template?.terminators(tokenizer) ?? []
  return [...tokenizer.stopIds, ...terminators]
}

/** Tokens of a plain text, of which `rowsOfText` makes rows: as objects they would take more memory than their tokens. */
export interface TextTokens extends Pick<Tokenizer, 'bosId' | 'eosId'> {
  ids: Int32Array
  weight: number
}

/**
 * Encodes plain text for pre-training: all tokens are trained, and an EOS token ends it (a rendered text may end in a
 * special token of its own instead).
 */
export function encodeText(
  example: Extract<Example, { kind: 'text' }>,
  tokenizer: Tokenizer,
): TextTokens | Dropped {
  const { text, rendered = false, weight } = example
  const { bosId, eosId } = tokenizer
  const prefix = textPrefix(text, rendered, tokenizer)
  const list = new IdList()
  list.append(prefix)
  tokenizer.encodeInto(list, text, { allowSpecial: rendered })
  if (list.length === prefix.length) return 'empty'
  if (eosId !== null && !(rendered && tokenizer.endsWithSpecial(text.trimEnd()))) list.push(eosId)
  const ids = list.finish()
  return ids.length < 2 ? 'noLabels' : { ids, weight, bosId, eosId }
}

/**
 * Splits a long text into rows. Each begins with the last token of the one before, so that every token is predicted.
 */
export function* rowsOfText(text: TextTokens, maxLength: number): Generator<EncodedRow | Dropped> {
  const { ids, weight, eosId } = text
  const stopIds = eosId === null ? [] : [eosId]
  for (let from = 0; from < ids.length - 1; from += maxLength - 1) {
    const inputIds = ids.subarray(from, from + maxLength)
    yield finish(inputIds, inputIds.slice(), weight, false, text, stopIds)
  }
}

function finish(
  inputIds: Int32Array,
  labels: Int32Array,
  weight: number,
  truncated: boolean,
  tokenizer: Pick<Tokenizer, 'bosId' | 'eosId'>,
  stopIds: readonly number[],
): EncodedRow | 'noLabels' {
  // Nothing precedes the first token of a row to predict it.
  labels[0] = IGNORE_INDEX
  if (!labels.some((label) => label !== IGNORE_INDEX)) return 'noLabels'
  const bos = tokenizer.bosId
  return {
    inputIds,
    labels,
    weight,
    truncated,
    stops: labels.some((label) => stopIds.includes(label)),
    jointDiffers: false,
    emptyOutput: false,
    conversation: null,
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
