import { PosttrainError } from '../../errors.js'
import { type Encoder, orDamaged, type Part } from './encoder.js'
import { IdList } from './id-list.js'
import { mergedTokens } from './long-words.js'
import { Merger } from './merger.js'
import type { AddedToken } from './tokenizer-files.js'
import { Unigram, type Vocabulary } from './unigram.js'

/** Longest word whose ids are remembered, and how many such words. */
const SHORT = 64
const MANY = 20_000
/** Longest word that is encoded as a whole. */
const LONG = 8_192

/** Words that pre-tokenizers make of a text, each of the words of the one before; the last has not spelled them yet. */
function* wordsIn(parts: readonly Part[], text: string, start = true, at = 0): Generator<string> {
  const part = parts[at]
  if (part === undefined) yield text
  else if (at === parts.length - 1) yield* part.words!(text, start)
  else {
    let first = start
    for (const word of part.words!(text, start)) {
      yield* wordsIn(parts, part.spell?.(word) ?? word, first && text.startsWith(word), at + 1)
      first = false
    }
  }
}

/** Sequences of pre-tokenizers as one list. */
function flat(part: Part | null): Part[] {
  if (part === null || part === undefined) return []
  return part.tokenizers === undefined ? [part] : part.tokenizers.flatMap(flat)
}

/** Encodes texts without added tokens word by word, so that the memory it needs does not grow with the text. */
export class WordEncoder {
  readonly #encoder: Encoder
  readonly #parts: Part[]
  readonly #longWord: number
  readonly #known = new Map<string, Int32Array>()
  readonly #unigram: Unigram | null
  /** Made for the first word that is not short. */
  #merger: Merger | null = null

  /** No text makes the special ones of the added tokens, though the vocabulary of a Unigram model has them. */
  constructor(encoder: Encoder, added: readonly AddedToken[], longWord: number = LONG) {
    this.#encoder = encoder
    this.#parts = flat(encoder.pre_tokenizer)
    this.#longWord = longWord
    const special = new Set(added.filter(({ special }) => special).map(({ content }) => content))
    const model = encoder.model as unknown as Vocabulary
    this.#unigram = Array.isArray(model.config.vocab) ? new Unigram(model, special, longWord) : null
  }

  /** Adds the ids of a text; ERR_INVALID_FILE where the vocabulary has no token for a part of it. */
  encode(text: string, into: IdList): void {
    if (text === '') return
    orDamaged(() => {
      const { normalizer, pre_tokenizer: whole, remove_space, do_lowercase_and_remove_accent } = this.#encoder
      let given = text
      if (remove_space) given = given.trim().replace(/\s+/g, ' ')
      if (do_lowercase_and_remove_accent) given = given.toLowerCase().replace(/\p{M}/gu, '')
      const normal = normalizer === null ? given : normalizer(given)
      if (normal === '') return
      whole?.begin?.(normal.length)
      for (const word of wordsIn(this.#parts, normal)) this.#word(word, into)
    })
  }

  idsOf(text: string): Int32Array {
    const ids = new IdList()
    this.encode(text, ids)
    return ids.finish()
  }

  #word(word: string, into: IdList): void {
    if (word.length > SHORT) {
      this.#longer(this.#spelled(word), into)
      return
    }
    let ids = this.#known.get(word)
    if (ids === undefined) {
      ids = Int32Array.from(this.#idsOf(this.#spelled(word)))
      if (this.#known.size === MANY) this.#known.clear()
      this.#known.set(owned(word), ids)
    }
    into.append(ids)
  }

  #spelled(word: string): string {
    return this.#parts.at(-1)?.spell?.(word) ?? word
  }

  #longer(word: string, into: IdList): void {
    const { model } = this.#encoder
    const { merges, end_of_word_suffix: end, continuing_subword_suffix: inside } = model
    const isToken = model.ignore_merges === true && model.tokens_to_ids.has(word)
    if (merges === undefined || end || inside || isToken || this.#unigram !== null) {
      into.append(this.#idsOf(word))
      return
    }
    this.#merger ??= new Merger(merges)
    const merger = this.#merger
    let last: number | undefined
    for (const token of mergedTokens((part) => merger.merge(part), word, this.#longWord)) {
      const ids = this.#tokenIds(token)
      const from = model.fuse_unk && ids[0] === model.unk_token_id && last === ids[0] ? 1 : 0
      into.append(from === 0 ? ids : Array.from(ids).slice(from))
      last = ids[ids.length - 1]
    }
  }

  /** Ids of one token of a long word, of several where its bytes stand for it. */
  #tokenIds(token: string): ArrayLike<number> {
    const id = this.#encoder.model.tokens_to_ids.get(token)
    return id === undefined ? this.#idsOf(token) : [id]
  }

  #idsOf(word: string): ArrayLike<number> {
    if (this.#unigram !== null) {
      const ids = new IdList()
      this.#unigram.encode(word, ids)
      return ids.finish()
    }
    const { model } = this.#encoder
    const { tokens_to_ids: idOf, unk_token_id: unknown, fuse_unk: fuse } = model
    const ids = checked(model.encode([word]).map((token) => idOf.get(token) ?? unknown))
    return fuse ? ids.filter((id, i) => id !== unknown || i === 0 || ids[i - 1] !== unknown) : ids
  }
}

function checked(ids: readonly (number | undefined)[]): number[] {
  if (ids.every((id) => id !== undefined)) return ids as number[]
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    'tokenizer.json has no token for a part of the text, and none for unknown ones (model.unk_token)',
  )
}

/** A copy of a short text that does not keep the text that it was cut from. */
function owned(text: string): string {
  return text.length < 13 ? text : Buffer.from(text, 'utf16le').toString('utf16le')
}
