import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { is, needArgument, needOptions } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { ioError } from '../../files/atomic.js'
import { needHubOptions } from '../../files/hub/options.js'
import type { HubOptions } from '../../files/hub/snapshot.js'
import { LIMITS, parseJsonObject as parse, readTextIfThere } from '../../files/read.js'
import { type AddedMatch, AddedTokens, type Guard } from './added-tokens.js'
import { Decoder } from './decoder.js'
import { type Encoder, encoderOf, orDamaged } from './encoder.js'
import { IdList } from './id-list.js'
import {
  type AddedToken,
  addedTokens,
  checked,
  highestId,
  type Json,
  MORE_TEMPLATES,
  readStopIds,
  readTemplates,
  type TokenizerFiles,
  tokenizerFolder,
  usesByteLevel,
  withSpecialTokens,
} from './tokenizer-files.js'
import { WordEncoder } from './word-encoder.js'

export type { TokenizerFiles } from './tokenizer-files.js'

const TEXTS = is.listOf(is.text, 'a list of strings')

/** Refuses what is no list of ids; decoding is called for every token, so an Int32Array is not looked through. */
function needIds(where: string, ids: unknown): void {
  if (!(ids instanceof Int32Array)) needArgument(where, 'the ids', ids, is.ids)
}

/** Encodes text to token ids and decodes them, as Hugging Face's tokenizers do. */
export class Tokenizer {
  readonly files: TokenizerFiles
  /** Ids are 0 to vocabSize - 1; a model may have more embedding rows. */
  readonly vocabSize: number
  readonly bosToken: string | null
  readonly eosToken: string | null
  readonly padToken: string | null
  /** Source of the chat template; null without one. */
  readonly chatTemplate: string | null
  /** Sources of further templates by their names, such as `tool_use`. */
  readonly namedTemplates: Readonly<Record<string, string>>
  /** Ids at which generation stops: the end token, and those of generation_config.json and config.json. */
  readonly stopIds: readonly number[]
  /** Ids that the tokenizer puts before a text: a BOS token for some families, none for most. */
  readonly prefixIds: readonly number[]
  readonly #full: Encoder
  readonly #plain: WordEncoder
  readonly #added: AddedToken[]
  readonly #addedById: Map<number, AddedToken>
  readonly #addedByContent: Map<string, AddedToken>
  /** Added tokens that are special; those that are not, such as runs of spaces, are part of ordinary text. */
  readonly #specials: AddedTokens
  readonly #ordinary: AddedTokens
  readonly #all: AddedTokens
  readonly #decoder: Decoder
  /** SentencePiece's leading space: 'always' before each piece between added tokens, 'first' before the first only. */
  readonly #dummySpace: 'always' | 'first' | null

  private constructor(files: TokenizerFiles) {
    this.files = files
    const json = checked(parse(files.tokenizerJson, 'tokenizer.json'))
    const config = parse(files.tokenizerConfig, 'tokenizer_config.json')
    this.#full = encoderOf(json, config)
    this.#added = addedTokens(json)
    this.#plain = new WordEncoder(encoderOf({ ...json, added_tokens: [] }, config), this.#added)
    this.#addedById = new Map(this.#added.map((token) => [token.id, token]))
    this.#addedByContent = new Map(this.#added.map((token) => [token.content, token]))
    this.#all = new AddedTokens(this.#added)
    this.#specials = new AddedTokens(this.#added.filter(({ special }) => special))
    this.#ordinary = new AddedTokens(this.#added.filter(({ special }) => !special))
    this.#decoder = new Decoder(this.#full, this.#addedById, usesByteLevel(json.decoder))
    this.vocabSize = highestId(json, this.#added) + 1
    const special = (name: string): string | null => {
      const value = config[name]
      const content = typeof value === 'object' && value !== null ? (value as Json).content : value
      return typeof content === 'string' && this.tokenToId(content) !== undefined ? content : null
    }
    this.bosToken = special('bos_token')
    this.eosToken = special('eos_token')
    this.padToken = special('pad_token')
    this.chatTemplate = files.chatTemplate ?? null
    this.namedTemplates = files.namedTemplates ?? {}
    const eos = this.#idOf(this.eosToken)
    this.stopIds = [...new Set([...(files.stopIds ?? []), ...(eos === null ? [] : [eos])])]
    const bare: number[] = orDamaged(() => this.#full.encode('a', { add_special_tokens: false }).ids)
    const dressed: number[] = orDamaged(() => this.#full.encode('a', { add_special_tokens: true }).ids)
    const at = dressed.findIndex((_, i) => bare.every((id, k) => dressed[i + k] === id))
    this.prefixIds = at > 0 ? dressed.slice(0, at) : []
    const before = this.#full.id_to_token(bare[0] ?? -1) ?? ''
    const first = JSON.stringify(json.pre_tokenizer ?? null).includes('"prepend_scheme":"first"')
    this.#dummySpace = before.startsWith('\u2581') ? (first ? 'first' : 'always') : null
  }

  /** Throws ERR_INVALID_FILE naming file and key, or ERR_UNSUPPORTED_MODEL for a tokenizer that would encode wrongly. */
  static fromFiles(files: TokenizerFiles): Tokenizer {
    needOptions('Tokenizer.fromFiles', files, { chatTemplate: is.text })
    needArgument('Tokenizer.fromFiles', 'tokenizerJson', files.tokenizerJson, is.text)
    needArgument('Tokenizer.fromFiles', 'tokenizerConfig', files.tokenizerConfig, is.text)
    return new Tokenizer(files)
  }

  /**
   * Reads a model folder, or `org/name` on the Hub: tokenizer.json, and tokenizer_config.json and chat_template.jinja
   * where they exist.
   */
  static async load(model: string, options: HubOptions = {}): Promise<Tokenizer> {
    needArgument('Tokenizer.load', 'the model', model, is.path)
    needHubOptions('Tokenizer.load', options)
    const directory = await tokenizerFolder(model, options)
    const read = (name: string, limit: number = LIMITS.json) => readTextIfThere(join(directory, name), limit)
    const tokenizerJson = await read('tokenizer.json', LIMITS.tokenizer)
    if (tokenizerJson === null) {
      const lacks = (await stat(directory).catch(() => null)) ? 'has no tokenizer.json' : 'does not exist'
      throw new PosttrainError('ERR_INVALID_FILE', `${directory} ${lacks}`)
    }
    const config = await read('tokenizer_config.json')
    const map = await read('special_tokens_map.json')
    const tokenizerConfig = withSpecialTokens(config ?? '{}', map ?? undefined)
    return new Tokenizer({
      tokenizerJson,
      tokenizerConfig,
      ...(await readTemplates(directory, tokenizerConfig)),
      stopIds: await readStopIds(directory),
    })
  }

  /** Writes tokenizer.json, tokenizer_config.json and, with a template, chat_template.jinja into a folder. */
  async save(directory: string, options: { chatTemplate?: string; padToken?: string } = {}): Promise<void> {
    needArgument('tokenizer.save', 'the folder', directory, is.path)
    needOptions('tokenizer.save', options, { chatTemplate: is.text, padToken: is.text })
    const write = async (name: string, text: string) => {
      const path = join(directory, name)
      await writeFile(path, text).catch((error) => {
        throw ioError('writing', path, error)
      })
    }
    await write('tokenizer.json', this.files.tokenizerJson)
    const config = this.files.tokenizerConfig
    const written =
      options.padToken === undefined
        ? config
        : `${JSON.stringify({ ...JSON.parse(config), pad_token: options.padToken }, null, 2)}\n`
    await write('tokenizer_config.json', written)
    const template = options.chatTemplate ?? this.files.chatTemplate
    if (template !== undefined) await write('chat_template.jinja', template)
    // A name from tokenizer_config.json may hold anything.
    const more = Object.entries(this.namedTemplates).filter(([name]) => /^\w[\w.-]*$/.test(name))
    if (more.length === 0) return
    await mkdir(join(directory, MORE_TEMPLATES))
    for (const [name, source] of more) await write(join(MORE_TEMPLATES, `${name}.jinja`), source)
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

  /** Special tokens, in the order of their ids. */
  get specialTokens(): { id: number; token: string }[] {
    return [...this.#addedById.values()]
      .filter(({ special }) => special)
      .map(({ id, content }) => ({ id, token: content }))
      .sort((a, b) => a.id - b.id)
  }

  tokenToId(token: string): number | undefined {
    return this.#addedByContent.get(token)?.id ?? this.#full.token_to_id(token)
  }

  idToToken(id: number): string | undefined {
    needArgument('idToToken', 'the id', id, is.number)
    return this.#addedById.get(id)?.content ?? this.#full.id_to_token(id)
  }

  /** Whether an id is a special token. */
  isSpecial(id: number): boolean {
    return this.#addedById.get(id)?.special === true
  }

  /**
   * Encodes a text; nothing is added before or after it. Special tokens in it are read as text unless `allowSpecial` is
   * set, as for rendered chat templates; with a `guard` those of the template are read, and those of the data stay text.
   * `first: false` is for text that continues other text: the tokenizer's leading space is left out.
   */
  encode(text: string, options: { allowSpecial?: boolean; first?: boolean; guard?: Guard } = {}): Int32Array {
    needArgument('encode', 'the text', text, is.text)
    needOptions('encode', options, { allowSpecial: is.flag, first: is.flag, guard: is.object })
    const ids = new IdList()
    this.encodeInto(ids, text, options)
    return ids.finish()
  }

  /** @internal Adds the ids of a text to a list. */
  encodeInto(ids: IdList, text: string, options: NonNullable<Parameters<Tokenizer['encode']>[1]>): void {
    const { guard, first = true } = options
    const tokens = options.allowSpecial === true || guard !== undefined ? this.#all : this.#ordinary
    const add = (from: number, to: number) =>
      this.#stretch(text.slice(from, to), from > 0 ? this.#dummySpace !== 'first' : first, ids)
    let from = 0
    for (const { token, start, end, guarded } of tokens.matches(text, 0, guard)) {
      if (guarded) continue
      add(from, start)
      ids.push(token.id)
      from = end
    }
    add(from, text.length)
  }

  encodeBatch(
    texts: readonly string[],
    options: { allowSpecial?: boolean; first?: boolean } = {},
  ): Int32Array[] {
    needArgument('encodeBatch', 'the texts', texts, TEXTS)
    return texts.map((text) => this.encode(text, options))
  }

  /** Added tokens in a rendered text, in order, those that stay text included. */
  added(text: string, guard?: Guard): AddedMatch[] {
    needArgument('added', 'the text', text, is.text)
    return Array.from(
      this.#all.matches(text, 0, guard),
      ({ token, tokenStart: start, tokenEnd: end, guarded }) => ({
        start,
        end,
        id: guarded ? null : token.id,
        special: token.special,
      }),
    )
  }

  /** Finds the first special token at or after `from` in a rendered text. */
  firstSpecial(text: string, from = 0): { start: number; end: number; id: number } | null {
    needArgument('firstSpecial', 'the text', text, is.text)
    needArgument('firstSpecial', 'from', from, is.count)
    const { value } = this.#specials.matches(text, from).next()
    return value === undefined ? null : { start: value.tokenStart, end: value.tokenEnd, id: value.token.id }
  }

  endsWithSpecial(text: string): boolean {
    needArgument('endsWithSpecial', 'the text', text, is.text)
    return this.#added.some(({ special, content }) => special && text.endsWith(content))
  }

  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    needIds('decode', ids)
    needOptions('decode', options, { skipSpecialTokens: is.flag })
    return this.#decoder.decode(ids, options.skipSpecialTokens ?? true)
  }

  /** Decodes incrementally: `push` returns whole characters only; `end` returns the rest. */
  streamDecoder(options: { skipSpecialTokens?: boolean } = {}): { push(id: number): string; end(): string } {
    needOptions('streamDecoder', options, { skipSpecialTokens: is.flag })
    const { push, end } = this.#decoder.stream(options.skipSpecialTokens ?? true)
    return {
      push: (id) => {
        needArgument('push', 'the id', id, is.count)
        return push(id)
      },
      end,
    }
  }

  /** Range of each token in its text: [start, end) in UTF-16 units. Byte-level models only. */
  offsets(ids: ArrayLike<number>): [number, number][] {
    needIds('offsets', ids)
    return this.#decoder.offsets(ids)
  }

  #idOf(token: string | null): number | null {
    return token === null ? null : (this.tokenToId(token) ?? null)
  }

  #stretch(text: string, first: boolean, into: IdList): void {
    if (first || text === '' || this.#dummySpace === null) {
      this.#plain.encode(text, into)
      return
    }
    // A line feed, which merges with nothing, suppresses the leading space.
    const [lead, ids] = [this.#plain.idsOf('\n'), this.#plain.idsOf(`\n${text}`)]
    if (lead.every((id, i) => ids[i] === id)) into.append(ids.subarray(lead.length))
    else this.#plain.encode(text, into)
  }
}
