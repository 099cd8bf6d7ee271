import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { repositoryUnlessPath } from '../../files/hub/id.js'
import type { HubOptions, Selection } from '../../files/hub/snapshot.js'
import { LIMITS, parseJsonObject as parse, readTextIfThere } from '../../files/read.js'
import { checkParts } from './tokenizer-parts.js'

export type Json = Record<string, unknown>

/** Files of a tokenizer as text, for workers and for saving. */
export interface TokenizerFiles {
  tokenizerJson: string
  /** tokenizer_config.json; `{}` without one. */
  tokenizerConfig: string
  /** chat_template.jinja, or the template of tokenizer_config.json. */
  chatTemplate?: string | undefined
  /** Further templates by their names: additional_chat_templates/, or the list in tokenizer_config.json. */
  namedTemplates?: Readonly<Record<string, string>> | undefined
  /** Ids that end a response, beside the end token: those of generation_config.json and config.json. */
  stopIds?: readonly number[] | undefined
}

/** Files of a tokenizer on the Hub. */
export const tokenizerSelection: Selection = {
  optional: [
    'tokenizer_config.json',
    'special_tokens_map.json',
    'chat_template.jinja',
    'generation_config.json',
  ],
  choose: async (names) => {
    if (!names.has('tokenizer.json')) {
      throw new PosttrainError(
        'ERR_HUB',
        'it has no tokenizer.json: convert its tokenizer with transformers (AutoTokenizer, save_pretrained)',
      )
    }
    const more = [...names].filter((name) => name.startsWith(`${MORE_TEMPLATES}/`) && name.endsWith('.jinja'))
    return ['tokenizer.json', ...more, ...tokenizerSelection.optional.filter((name) => names.has(name))]
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
  const { type, vocab } = model as Json
  if (type !== undefined && !MODELS.includes(String(type))) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: model.type ${JSON.stringify(type)} is not supported; it must be one of ${MODELS.join(', ')}`,
    )
  }
  if (typeof vocab !== 'object' || vocab === null) {
    throw new PosttrainError('ERR_INVALID_FILE', 'tokenizer.json: model.vocab is missing')
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

/** Templates of tokenizer_config.json by their names: a string is the one named `default`. */
export function templatesIn(tokenizerConfig: string): Record<string, string> {
  const value = parse(tokenizerConfig, 'tokenizer_config.json').chat_template
  if (typeof value === 'string') return { default: value }
  if (!Array.isArray(value)) return {}
  const named = (value as Json[]).flatMap((item): [string, string][] =>
    typeof item?.name === 'string' && typeof item.template === 'string' ? [[item.name, item.template]] : [],
  )
  return Object.fromEntries(named)
}

/** Ids that end a response by generation_config.json and config.json, where a folder has them. */
export async function readStopIds(directory: string): Promise<number[]> {
  const ids: number[] = []
  for (const name of ['generation_config.json', 'config.json']) {
    const text = await readTextIfThere(join(directory, name), LIMITS.json)
    if (text !== null) ids.push(...stopIdsIn(parse(text, name)))
  }
  return ids
}

/** Ids in `eos_token_id`, a number or a list. */
function stopIdsIn({ eos_token_id: ids }: Json): number[] {
  return [ids].flat().filter(isId)
}

/** Folder of further templates, each in a file `<name>.jinja`. */
export const MORE_TEMPLATES = 'additional_chat_templates'

/** Reads the templates of a folder: its files count before those of tokenizer_config.json, as in transformers. */
export async function readTemplates(
  directory: string,
  tokenizerConfig: string,
): Promise<Pick<TokenizerFiles, 'chatTemplate' | 'namedTemplates'>> {
  const own = await readTextIfThere(join(directory, 'chat_template.jinja'), LIMITS.template)
  const names = await readdir(join(directory, MORE_TEMPLATES)).catch(() => [])
  const files: Record<string, string> = {}
  for (const name of names) {
    const text = name.endsWith('.jinja')
      ? await readTextIfThere(join(directory, MORE_TEMPLATES, name), LIMITS.template)
      : null
    if (text !== null) files[name.slice(0, -'.jinja'.length)] = text
  }
  const inFiles = own !== null || Object.keys(files).length > 0
  const all = inFiles ? { ...files, ...(own !== null && { default: own }) } : templatesIn(tokenizerConfig)
  const { default: chatTemplate, ...namedTemplates } = all
  return { chatTemplate, namedTemplates }
}
