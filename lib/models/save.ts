import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Core, Dtype } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { is, needArgument, needOptions } from '../arguments.js'
import type { Tokenizer } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import { type Exchange, needOrNothing, writeFolderAtomic } from '../files/atomic.js'
import { withoutHead } from './adapter-entries.js'
import type { HfConfig } from './families/index.js'
import { SAVES } from './folder.js'
import { peftEntries } from './peft.js'
import { peftConfig } from './peft-config.js'
import { ADAPTER_WEIGHTS } from './peft-file.js'
import type { Role } from './role.js'
import { saveOf, shardsOf } from './weights.js'

/** Options of saving a folder. */
export interface SaveOptions {
  /** Dtype of the saved weights. Default: that of the weights in memory; float32 for float64. */
  dtype?: Exclude<Dtype, 'float64'>
  /** Replaces an existing folder, which is refused otherwise. Defaults to `false`. */
  overwrite?: boolean
  /** Aborts between two tensors and leaves no files. Optional. */
  signal?: AbortSignal
}

/** Checks the arguments of save(), which writes the weights of the base, in their own dtype by default. */
export function checkedSave(directory: string, options: SaveOptions, role: Role) {
  needArgument('save', 'the folder', directory, is.path)
  needOptions('save', options, {
    dtype: is.oneOf('float32', 'bfloat16', 'float16'),
    overwrite: is.flag,
    signal: is.signal,
  })
  if (role.adapter !== null) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `save() writes the weights of the base, but the adapter ${role.adapter} is active: save it with saveAdapter(), or merge it into the weights with mergeAdapter()`,
    )
  }
  const { dtype, quantize } = role.base
  if (quantize !== null) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'the weights of the base are in 4 bits, which save() does not write: save an adapter with saveAdapter(); posttrain merge puts it into the base in 16 bits',
    )
  }
  return {
    role,
    dtype: options.dtype ?? (dtype === 'float64' ? ('float32' as const) : dtype),
    overwrite: options.overwrite === true,
    signal: options.signal,
  }
}

/** The content of a saved model. */
export interface SavedModel {
  role: Role
  dtype: Dtype
  config: HfConfig
  /** null: the model does not generate. */
  generationConfig: Record<string, unknown> | null
  stopIds: readonly number[]
  tokenizer: Tokenizer
  chatTemplate: string | null
  /** Written to tokenizer_config.json if it differs from the tokenizer's own. */
  padToken?: string
  overwrite: boolean
  signal: AbortSignal | undefined
}

/** How the core exchanges two folders. */
export function exchangeOf(core: Core): Exchange {
  return (a, b) => call(core, () => core.exchangePaths(a, b))
}

const writeJson = (folder: string, name: string, value: unknown) =>
  writeFile(join(folder, name), `${withFloats(JSON.stringify(value, null, 2))}\n`)

/**
 * Writes the weights of a role into a folder: one file, or shards of at most `limit` bytes with an index, whose metadata
 * says which shards belong to this save.
 */
export async function saveWeights(
  role: Role,
  folder: string,
  { dtype, signal, limit }: { dtype: Dtype; signal?: AbortSignal | undefined; limit?: number },
): Promise<void> {
  const { core } = role.base
  const sizes = new Map(
    (await role.parameters()).map(({ name, shape }) => [name, shape.reduce((n, size) => n * size, 1)]),
  )
  const sized = role.plainEntries.map((entry) => ({ entry, values: sizes.get(entry.name)! }))
  const { shards, index } = shardsOf(sized, dtype, limit)
  const saves: Record<string, string | undefined> = {}
  for (const { file, entries } of shards) {
    const options = { dtype, metadata: { format: 'pt' } }
    const target = join(folder, file)
    await call(core, (cancel) => core.saveTensors(role.handle, target, entries, options, cancel), signal)
    if (index !== null) saves[file] = saveOf((await core.readHeader(target)).metadata)
  }
  if (index === null) return
  const metadata = { ...index.metadata, [SAVES]: saves }
  await writeJson(folder, 'model.safetensors.index.json', { ...index, metadata })
}

/** Writes a Hugging Face folder atomically. */
export async function writeModelFolder(directory: string, model: SavedModel): Promise<void> {
  const { role, dtype, signal } = model
  const { core } = role.base
  await needOrNothing('folder', directory)
  await writeFolderAtomic(
    directory,
    async (folder) => {
      await saveWeights(role, folder, { dtype, signal })
      await writeJson(folder, 'config.json', { ...model.config, dtype, torch_dtype: dtype })
      if (model.generationConfig !== null)
        await writeJson(folder, 'generation_config.json', generationConfig(model, model.generationConfig))
      await writeTokenizer(folder, model)
    },
    { replace: model.overwrite ? exchangeOf(core) : undefined },
  )
}

/** Writes adapter_config.json, adapter_model.safetensors and the tokenizer atomically. */
export async function writeAdapterFolder(
  directory: string,
  model: Pick<SavedModel, 'role' | 'tokenizer' | 'chatTemplate' | 'overwrite'>,
): Promise<void> {
  const { role } = model
  const { core, family, source: base } = role.base
  const active = role.activeConfig('saveAdapter')
  const config = role.scored ? withoutHead(active) : active
  await needOrNothing('folder', directory)
  await writeFolderAtomic(
    directory,
    async (folder) => {
      const path = join(folder, ADAPTER_WEIGHTS)
      const options = { dtype: 'float32' as const, metadata: { format: 'pt' } }
      const entries = peftEntries(config, role.scored)
      await call(core, () => core.saveTensors(role.handle, path, entries, options))
      const written = peftConfig(config, { base, modelType: family.modelType, scored: role.scored })
      await writeFile(join(folder, 'adapter_config.json'), `${JSON.stringify(written, null, 2)}\n`)
      await writeTokenizer(folder, model)
    },
    { replace: model.overwrite ? exchangeOf(core) : undefined },
  )
}

/** Writes a soft cap of 30 as 30.0: transformers requires a float in these fields and refuses an integer. */
const withFloats = (json: string) =>
  json.replace(/^( *"(?:attn|final)_logit_softcapping": \d+)(?=,?$)/gm, '$1.0')

/** generation_config.json as it was read, with all stop ids, those of the template included. */
function generationConfig(
  { tokenizer, stopIds }: SavedModel,
  read: Record<string, unknown>,
): Record<string, unknown> {
  return {
    ...read,
    ...(tokenizer.bosId !== null && { bos_token_id: read.bos_token_id ?? tokenizer.bosId }),
    ...(stopIds.length > 0 && { eos_token_id: stopIds.length === 1 ? stopIds[0] : stopIds }),
    ...(tokenizer.padId !== null && { pad_token_id: read.pad_token_id ?? tokenizer.padId }),
  }
}

/** The tokenizer's files and the chat template. */
async function writeTokenizer(
  folder: string,
  {
    tokenizer,
    chatTemplate,
    padToken,
  }: { tokenizer: Tokenizer; chatTemplate: string | null; padToken?: string },
): Promise<void> {
  await tokenizer.save(folder, {
    ...(chatTemplate !== null && { chatTemplate }),
    ...(padToken !== undefined && { padToken }),
  })
}
