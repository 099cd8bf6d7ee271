import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer as Encoder } from '@huggingface/tokenizers'
import { PosttrainError } from '../errors.js'

type Json = Record<string, unknown>

/** The files of a tokenizer, as text: what is copied to a worker and what is saved. */
export interface TokenizerFiles {
  tokenizerJson: string
  /** `{}` where there is none. */
  tokenizerConfig: string
  /** chat_template.jinja, or the template of tokenizer_config.json. */
  chatTemplate?: string | undefined
}

interface AddedToken {
  id: number
  content: string
  lstrip: boolean
  rstrip: boolean
  special: boolean
}

/**
 * Put inside a special token that somebody typed, it keeps the text from being read as that token; `encode` takes it
 * out. A noncharacter of Unicode, which no text may contain.
 */
export const GUARD = '\uFDD0'

function parse(text: string, where: string): Json {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new PosttrainError('ERR_INVALID_FILE', `${where} is not valid JSON: ${(cause as Error).message}`, {
      cause,
    })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new PosttrainError('ERR_INVALID_FILE', `${where} must hold an object`)
  }
  return value as Json
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new PosttrainError('ERR_INVALID_FILE', `${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** GPT-2's table: the characters that stand for the 256 bytes in byte-level vocabularies. */
const BYTE_OF_CHARACTER = (() => {
  const table = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    table.set(String.fromCodePoint(printable ? byte : next++), byte)
  }
  return table
})()

function usesByteLevel(part: unknown): boolean {
  if (typeof part !== 'object' || part === null) return false
  const { type, decoders } = part as { type?: unknown; decoders?: unknown }
  return type === 'ByteLevel' || (Array.isArray(decoders) && decoders.some(usesByteLevel))
}

/** The JSON with what the encoder takes for granted, or a typed error naming what is missing. */
function checked(json: Json): Json {
  const model = json['model']
  if (typeof model !== 'object' || model === null) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      'tokenizer.json has no model: it is damaged or not a tokenizer',
    )
  }
  const { type, vocab, byte_fallback: byteFallback } = model as Json
  if (typeof vocab !== 'object' || vocab === null) {
    throw new PosttrainError('ERR_INVALID_FILE', 'tokenizer.json: model.vocab is missing')
  }
  if (type === 'Unigram' && byteFallback === true) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      'tokenizer.json: a Unigram model with byte_fallback is not encoded exactly by the tokenizer library and is refused',
    )
  }
  const added = json['added_tokens'] ?? []
  if (!Array.isArray(added))
    throw new PosttrainError('ERR_INVALID_FILE', 'tokenizer.json: added_tokens must be a list')
  for (const token of added as unknown[]) {
    const { id, content } = (token ?? {}) as Json
    if (typeof content !== 'string' || content === '' || !Number.isInteger(id) || (id as number) < 0) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        'tokenizer.json: each of added_tokens needs an id and a content',
      )
    }
  }
  return {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...json,
    added_tokens: added,
  }
}

function encoderOf(json: Json, config: Json): Encoder {
  try {
    return new Encoder(json, { ...config, clean_up_tokenization_spaces: false })
  } catch (cause) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `tokenizer.json cannot be used: ${(cause as Error).message}`,
      { cause },
    )
  }
}

/** Text to token ids and back, as Hugging Face's tokenizers do it. */
export class Tokenizer {
  readonly files: TokenizerFiles
  /** Ids run from 0 to vocabSize - 1; a model may have more rows. */
  readonly vocabSize: number
  readonly bosToken: string | null
  readonly eosToken: string | null
  readonly padToken: string | null
  /** The chat template's source; null where there is none. */
  readonly chatTemplate: string | null
  /** What the tokenizer itself puts before a text: a BOS token for some families, nothing for most. */
  readonly prefixIds: readonly number[]
  readonly #full: Encoder
  readonly #plain: Encoder
  readonly #added: AddedToken[]
  readonly #addedById: Map<number, AddedToken>
  readonly #addedByContent: Map<string, AddedToken>
  readonly #addedPattern: RegExp | null
  readonly #byteLevel: boolean

  private constructor(files: TokenizerFiles) {
    this.files = files
    const json = checked(parse(files.tokenizerJson, 'tokenizer.json'))
    const config = parse(files.tokenizerConfig, 'tokenizer_config.json')
    this.#full = encoderOf(json, config)
    this.#plain = encoderOf({ ...json, added_tokens: [] }, config)
    this.#added = (json['added_tokens'] as Json[]).map((token) => ({
      id: token['id'] as number,
      content: token['content'] as string,
      lstrip: token['lstrip'] === true,
      rstrip: token['rstrip'] === true,
      special: token['special'] === true,
    }))
    this.#addedById = new Map(this.#added.map((token) => [token.id, token]))
    this.#addedByContent = new Map(this.#added.map((token) => [token.content, token]))
    const alternatives = this.#added
      .map(({ content, lstrip, rstrip }) => {
        const text = content.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
        return { content, pattern: `${lstrip ? '\\s*' : ''}${text}${rstrip ? '\\s*' : ''}` }
      })
      .sort((a, b) => b.content.length - a.content.length)
    this.#addedPattern =
      alternatives.length === 0
        ? null
        : new RegExp(alternatives.map(({ pattern }) => pattern).join('|'), 'gu')
    this.#byteLevel = usesByteLevel(json['decoder'])
    const vocab = this.#full.get_vocab(true)
    let highest = -1
    for (const id of vocab.values()) highest = Math.max(highest, id)
    for (const { id } of this.#added) highest = Math.max(highest, id)
    this.vocabSize = highest + 1
    const special = (name: string): string | null => {
      const value = config[name]
      const content = typeof value === 'object' && value !== null ? (value as Json)['content'] : value
      return typeof content === 'string' && this.tokenToId(content) !== undefined ? content : null
    }
    this.bosToken = special('bos_token')
    this.eosToken = special('eos_token')
    this.padToken = special('pad_token')
    this.chatTemplate = files.chatTemplate ?? null
    const bare: number[] = this.#full.encode('a', { add_special_tokens: false }).ids
    const dressed: number[] = this.#full.encode('a', { add_special_tokens: true }).ids
    const at = dressed.findIndex((_, i) => bare.every((id, k) => dressed[i + k] === id))
    this.prefixIds = at > 0 ? dressed.slice(0, at) : []
  }

  /** Throws ERR_INVALID_FILE naming the file and key, ERR_UNSUPPORTED_MODEL for what would be encoded wrongly. */
  static fromFiles(files: TokenizerFiles): Tokenizer {
    return new Tokenizer(files)
  }

  /** From a model folder: tokenizer.json, and tokenizer_config.json and chat_template.jinja where they are. */
  static async load(directory: string): Promise<Tokenizer> {
    const tokenizerJson = await readIfThere(join(directory, 'tokenizer.json'))
    if (tokenizerJson === undefined) {
      throw new PosttrainError('ERR_INVALID_FILE', `${directory} has no tokenizer.json`)
    }
    const tokenizerConfig = (await readIfThere(join(directory, 'tokenizer_config.json'))) ?? '{}'
    const own = await readIfThere(join(directory, 'chat_template.jinja'))
    return new Tokenizer({ tokenizerJson, tokenizerConfig, chatTemplate: own ?? templateIn(tokenizerConfig) })
  }

  /** Writes tokenizer.json, tokenizer_config.json and, where there is one, chat_template.jinja into a folder. */
  async save(directory: string, options: { chatTemplate?: string } = {}): Promise<void> {
    await writeFile(join(directory, 'tokenizer.json'), this.files.tokenizerJson)
    await writeFile(join(directory, 'tokenizer_config.json'), this.files.tokenizerConfig)
    const template = options.chatTemplate ?? this.files.chatTemplate
    if (template !== undefined) await writeFile(join(directory, 'chat_template.jinja'), template)
  }

  get eosId(): number | null {
    return this.#idOf(this.eosToken)
  }

  get bosId(): number | null {
    return this.#idOf(this.bosToken)
  }

  get padId(): number | null {
    return this.#idOf(this.padToken)
  }

  tokenToId(token: string): number | undefined {
    return this.#addedByContent.get(token)?.id ?? this.#full.token_to_id(token)
  }

  idToToken(id: number): string | undefined {
    return this.#addedById.get(id)?.content ?? this.#full.id_to_token(id)
  }

  /** Whether an id is one of the tokens that only structure a text. */
  isSpecial(id: number): boolean {
    return this.#addedById.get(id)?.special === true
  }

  /**
   * Ids of a text; nothing is added before or after it. Text that looks like a special token is text, unless
   * `allowSpecial` is set, as it is for what a chat template renders.
   */
  encode(text: string, options: { allowSpecial?: boolean } = {}): Int32Array {
    const clean = (piece: string) => piece.replaceAll(GUARD, '')
    if (options.allowSpecial !== true || this.#addedPattern === null)
      return Int32Array.from(this.#pieces(clean(text)))
    const ids: number[] = []
    let from = 0
    for (const match of text.matchAll(this.#addedPattern)) {
      for (const id of this.#pieces(clean(text.slice(from, match.index)))) ids.push(id)
      const found = this.#addedByContent.get(match[0]) ?? this.#addedByContent.get(match[0].trim())
      if (found !== undefined) ids.push(found.id)
      from = match.index + match[0].length
    }
    for (const id of this.#pieces(clean(text.slice(from)))) ids.push(id)
    return Int32Array.from(ids)
  }

  encodeBatch(texts: readonly string[], options: { allowSpecial?: boolean } = {}): Int32Array[] {
    return texts.map((text) => this.encode(text, options))
  }

  /** The same text with a guard inside everything that `encode(..., { allowSpecial: true })` would read as a special token. */
  guard(text: string): string {
    if (this.#addedPattern === null) return text
    return text.replace(this.#addedPattern, (match) => {
      const at = match.length - match.trimStart().length
      return match.slice(0, at + 1) + GUARD + match.slice(at + 1)
    })
  }

  /** Where the first special token at or after `from` lies in a rendered text; guarded ones do not count. */
  firstSpecial(text: string, from = 0): { start: number; end: number; id: number } | null {
    if (this.#addedPattern === null) return null
    for (const match of text.slice(from).matchAll(this.#addedPattern)) {
      const token = this.#addedByContent.get(match[0].trim()) ?? this.#addedByContent.get(match[0])
      if (token?.special !== true) continue
      const start = from + match.index + match[0].indexOf(token.content)
      return { start, end: start + token.content.length, id: token.id }
    }
    return null
  }

  endsWithSpecial(text: string): boolean {
    return this.#added.some(({ special, content }) => special && text.endsWith(content))
  }

  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const skip = options.skipSpecialTokens ?? true
    const list = Array.from(ids)
    if (this.#byteLevel)
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(this.#bytesOf(list, skip))
    return list.length === 0
      ? ''
      : this.#full.decode(list, { skip_special_tokens: skip, clean_up_tokenization_spaces: false })
  }

  /** Text by and by: `push` gives what is sure, never half a character; `end` gives the rest. */
  streamDecoder(options: { skipSpecialTokens?: boolean } = {}): { push(id: number): string; end(): string } {
    const skip = options.skipSpecialTokens ?? true
    if (this.#byteLevel) {
      const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
      return {
        push: (id) => decoder.decode(this.#bytesOf([id], skip), { stream: true }),
        end: () => decoder.decode(),
      }
    }
    const ids: number[] = []
    let given = ''
    const take = (text: string) => {
      const piece = text.slice(given.length)
      given = text
      return piece
    }
    return {
      push: (id) => {
        ids.push(id)
        const text = this.decode(ids, { skipSpecialTokens: skip })
        return text.endsWith('\uFFFD') ? '' : take(text)
      },
      end: () => take(this.decode(ids, { skipSpecialTokens: skip })),
    }
  }

  /** Where each token lies in its text: [start, end) in UTF-16 units. Byte-level models only. */
  offsets(ids: ArrayLike<number>): [number, number][] {
    if (!this.#byteLevel) {
      throw new PosttrainError('ERR_UNSUPPORTED_MODEL', 'offsets are known for byte-level tokenizers only')
    }
    const list = Array.from(ids)
    const unitsAt: number[] = [0]
    // A byte belongs to the character it starts or continues; units count once the character is whole.
    let units = 0
    for (const character of new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      this.#bytesOf(list, false),
    )) {
      const bytes = new TextEncoder().encode(character).length
      for (let i = 1; i < bytes; i++) unitsAt.push(units)
      units += character.length
      unitsAt.push(units)
    }
    let byte = 0
    return list.map((id) => {
      const start = byte
      byte += this.#bytesOf([id], false).length
      return [
        unitsAt[Math.min(start, unitsAt.length - 1)] ?? units,
        unitsAt[Math.min(byte, unitsAt.length - 1)] ?? units,
      ]
    })
  }

  #idOf(token: string | null): number | null {
    return token === null ? null : (this.tokenToId(token) ?? null)
  }

  #pieces(text: string): number[] {
    return text === '' ? [] : this.#plain.encode(text, { add_special_tokens: false }).ids
  }

  #bytesOf(ids: number[], skipSpecial: boolean): Uint8Array {
    const bytes: number[] = []
    for (const id of ids) {
      const added = this.#addedById.get(id)
      if (added !== undefined) {
        if (!(skipSpecial && added.special)) bytes.push(...new TextEncoder().encode(added.content))
        continue
      }
      for (const character of this.#full.id_to_token(id) ?? '') {
        const byte = BYTE_OF_CHARACTER.get(character)
        if (byte === undefined) bytes.push(...new TextEncoder().encode(character))
        else bytes.push(byte)
      }
    }
    return Uint8Array.from(bytes)
  }
}

/** The default template of tokenizer_config.json: a string, or the one named `default` of a list. */
function templateIn(tokenizerConfig: string): string | undefined {
  const value = parse(tokenizerConfig, 'tokenizer_config.json')['chat_template']
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = (value as Json[]).find((item) => item?.['name'] === 'default')?.['template']
  return typeof named === 'string' ? named : undefined
}
