import { PosttrainError } from '../../errors.js'
import { repositoryUnlessPath } from '../../files/hub/id.js'
import type { HubOptions, Selection } from '../../files/hub/snapshot.js'
import { parseJsonObject as parse } from '../../files/read.js'
import { checkParts } from './tokenizer-parts.js'

export type Json = Record<string, unknown>

/** Files of a tokenizer as text, for workers and for saving. */
export interface TokenizerFiles {
  tokenizerJson: string
  /** tokenizer_config.json; `{}` without one. */
  tokenizerConfig: string
  /** chat_template.jinja, or the template of tokenizer_config.json. */
  chatTemplate?: string | undefined
}

/** Files of a tokenizer on the Hub. */
export const tokenizerSelection: Selection = {
  optional: ['tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja'],
  choose: async (names) => {
    if (!names.has('tokenizer.json')) {
      throw new PosttrainError(
        'ERR_HUB',
        'it has no tokenizer.json: convert its tokenizer with transformers (AutoTokenizer, save_pretrained)',
      )
    }
    return ['tokenizer.json', ...tokenizerSelection.optional.filter((name) => names.has(name))]
  },
}

/** Folder of a tokenizer: a local path, or the snapshot of a repository on the Hub. */
export async function tokenizerFolder(name: string, options: HubOptions): Promise<string> {
  const repository = await repositoryUnlessPath(name, options.revision)
  if (repository === null) return name
  const { hubSnapshot } = await import('../../files/hub/snapshot.js')
  return (await hubSnapshot(repository, tokenizerSelection, options)).folder
}

export interface AddedToken {
  id: number
  content: string
  lstrip: boolean
  rstrip: boolean
  special: boolean
}

export function usesByteLevel(part: unknown): boolean {
  if (typeof part !== 'object' || part === null) return false
  const { type, decoders } = part as { type?: unknown; decoders?: unknown }
  return type === 'ByteLevel' || (Array.isArray(decoders) && decoders.some(usesByteLevel))
}

const MAX_ID = 2 ** 24
/** Longest added token, in characters: how far a search looks ahead from each place of a text. */
const MAX_CONTENT = 1_024
const MODELS = ['BPE', 'WordPiece', 'Unigram']

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < MAX_ID
}

/** Checks and completes tokenizer.json for the encoder; throws an error naming what is missing. */
export function checked(json: Json): Json {
  const model = json.model
  if (typeof model !== 'object' || model === null) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      'tokenizer.json has no model: it is damaged or not a tokenizer',
    )
  }
  const { type, vocab, byte_fallback: byteFallback } = model as Json
  if (type !== undefined && !MODELS.includes(String(type))) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: model.type ${JSON.stringify(type)} is not supported; it must be one of ${MODELS.join(', ')}`,
    )
  }
  if (typeof vocab !== 'object' || vocab === null) {
    throw new PosttrainError('ERR_INVALID_FILE', 'tokenizer.json: model.vocab is missing')
  }
  if (type === 'Unigram' && byteFallback === true) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      'tokenizer.json: a Unigram model with byte_fallback is not encoded exactly by the tokenizer library and is refused',
    )
  }
  const added = json.added_tokens ?? []
  if (!Array.isArray(added))
    throw new PosttrainError('ERR_INVALID_FILE', 'tokenizer.json: added_tokens must be a list')
  for (const token of added as unknown[]) {
    const { id, content } = (token ?? {}) as Json
    if (typeof content !== 'string' || content === '' || content.length > MAX_CONTENT || !isId(id)) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `tokenizer.json: each of added_tokens needs an id and a content of at most ${MAX_CONTENT} characters`,
      )
    }
  }
  checkParts(json)
  return {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...json,
    added_tokens: added,
  }
}

export function addedTokens(json: Json): AddedToken[] {
  return (json.added_tokens as Json[]).map((token) => ({
    id: token.id as number,
    content: token.content as string,
    lstrip: token.lstrip === true,
    rstrip: token.rstrip === true,
    special: token.special === true,
  }))
}

/** Highest id of vocabulary and added tokens; ERR_INVALID_FILE for an invalid id. */
export function highestId(json: Json, added: readonly AddedToken[]): number {
  const { vocab } = json.model as { vocab: object }
  let highest = Array.isArray(vocab) ? vocab.length - 1 : -1
  if (!Array.isArray(vocab)) {
    for (const [token, id] of Object.entries(vocab) as [string, unknown][]) {
      if (!isId(id)) {
        throw new PosttrainError(
          'ERR_INVALID_FILE',
          `tokenizer.json: model.vocab gives the token ${JSON.stringify(token)} no valid id`,
        )
      }
      highest = Math.max(highest, id)
    }
  }
  for (const { id } of added) highest = Math.max(highest, id)
  return highest
}

/** Adds the special tokens of special_tokens_map.json, used by older models, that tokenizer_config.json lacks. */
export function withSpecialTokens(config: string, map: string | undefined): string {
  if (map === undefined) return config
  const given = parse(config, 'tokenizer_config.json')
  const names = ['bos_token', 'eos_token', 'pad_token', 'unk_token']
  const extra = Object.entries(parse(map, 'special_tokens_map.json')).filter(
    ([name]) => names.includes(name) && (given[name] ?? null) === null,
  )
  return extra.length === 0 ? config : JSON.stringify({ ...given, ...Object.fromEntries(extra) }, null, 2)
}

/** Default template of tokenizer_config.json: a string, or the one named `default` in a list. */
export function templateIn(tokenizerConfig: string): string | undefined {
  const value = parse(tokenizerConfig, 'tokenizer_config.json').chat_template
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = (value as Json[]).find((item) => item?.name === 'default')?.template
  return typeof named === 'string' ? named : undefined
}
