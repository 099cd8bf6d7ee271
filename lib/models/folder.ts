import { lstat, stat } from 'node:fs/promises'
import { isAbsolute, join, normalize, sep } from 'node:path'
import { PosttrainError } from '../errors.js'
import { isFile, LIMITS, parseJsonObject, readText, readTextIfThere } from '../files/read.js'
import type { HfConfig } from './families/index.js'

type Json = Record<string, unknown>

/** Key of the index's metadata under which our saves have `saveOf` each shard; other readers pass over it. */
export const SAVES = 'posttrain.shards'

async function readJson(path: string, limit: number = LIMITS.json): Promise<Json | null> {
  const text = await readTextIfThere(path, limit)
  return text === null ? null : parseJsonObject(text, path)
}

/** config.json of a model folder. */
export async function readConfig(directory: string): Promise<HfConfig> {
  const found = await stat(directory).catch(() => null)
  if (found === null)
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory} does not exist; give a folder, or org/name on the Hub`,
    )
  if (!found.isDirectory())
    throw new PosttrainError('ERR_INVALID_FILE', `${directory} is not a folder with a model`)
  const path = join(directory, 'config.json')
  const isThere = (name: string) =>
    stat(join(directory, name)).then(
      () => true,
      () => false,
    )
  if (!(await isThere('config.json')) && (await isThere('adapter_config.json')))
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory} is an adapter: load its base, then it with loadAdapter or --adapter`,
    )
  const config = parseJsonObject(await readText(path, LIMITS.json), path)
  if (typeof config.recipe !== 'string' || config.model_type !== undefined) return config as HfConfig
  const saved = (await isThere('adapter'))
    ? `load the base of that run, then ${join(directory, 'adapter')} with loadAdapter or --adapter`
    : (await isThere('model'))
      ? `its model is in ${join(directory, 'model')}`
      : 'it has saved no model yet, which a run does at its end: continue it with option resume'
  throw new PosttrainError('ERR_INVALID_FILE', `${directory} is the folder of a run: ${saved}`)
}

/** generation_config.json, or an empty object. */
export async function readGenerationConfig(directory: string): Promise<Json> {
  return (await readJson(join(directory, 'generation_config.json'))) ?? {}
}

/**
 * The path of a weight file that the index names. A name must stay inside the folder, since the index is untrusted. The
 * file itself may be a symbolic link, which is the owner's choice.
 */
async function inside(directory: string, name: string): Promise<string> {
  const parts = normalize(name).split(sep)
  if (name === '' || isAbsolute(name) || parts.includes('..') || name.includes('\0')) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory}: the file name ${JSON.stringify(name)} points outside the folder`,
    )
  }
  const path = join(directory, name)
  if (await isFile(path)) return path
  throw new PosttrainError('ERR_INVALID_FILE', `${path} does not exist`)
}

/** A file with weights; `save` says which shards belong together, where the index does. */
export interface WeightFile {
  path: string
  save?: string
}

/** The weight files of a folder: model.safetensors, or the shards of its index. */
export async function weightFiles(directory: string): Promise<WeightFile[]> {
  // If both exist, transformers too takes the single file.
  const single = await lstat(join(directory, 'model.safetensors')).catch(() => null)
  if (single !== null) return [{ path: await inside(directory, 'model.safetensors') }]
  const index = await readJson(join(directory, 'model.safetensors.index.json'), LIMITS.index)
  if (index === null) {
    for (const name of ['pytorch_model.bin', 'model.bin', 'model.gguf']) {
      if (await stat(join(directory, name)).catch(() => null)) {
        throw new PosttrainError(
          'ERR_INVALID_FILE',
          `${directory} has ${name} and no model.safetensors: convert the weights to safetensors`,
        )
      }
    }
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory} has neither model.safetensors nor model.safetensors.index.json`,
    )
  }
  const map = index.weight_map
  if (typeof map !== 'object' || map === null || Object.keys(map).length === 0) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory}/model.safetensors.index.json has no weight_map`,
    )
  }
  const names = new Set<string>()
  for (const [tensor, name] of Object.entries(map)) {
    if (typeof name !== 'string') {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${directory}/model.safetensors.index.json: the file of ${tensor} must be a string`,
      )
    }
    names.add(name)
  }
  const saves = ((index.metadata as Json | undefined)?.[SAVES] ?? {}) as Json
  return await Promise.all(
    [...names].map(async (name) => {
      const path = await inside(directory, name)
      return typeof saves[name] === 'string' ? { path, save: saves[name] } : { path }
    }),
  )
}
