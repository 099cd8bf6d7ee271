import { lstat, readFile, readlink, stat } from 'node:fs/promises'
import { isAbsolute, join, normalize, sep } from 'node:path'
import { PosttrainError } from '../errors.js'
import type { HfConfig } from './families/index.js'

type Json = Record<string, unknown>

async function readJson(path: string, required: boolean): Promise<Json | null> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    if (missing && !required) return null
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      missing ? `${path} does not exist` : `${path} cannot be read: ${(cause as Error).message}`,
      { cause },
    )
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new PosttrainError('ERR_INVALID_FILE', `${path} is not valid JSON: ${(cause as Error).message}`, {
      cause,
    })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new PosttrainError('ERR_INVALID_FILE', `${path} must hold an object`)
  }
  return value as Json
}

/** config.json of a model folder. */
export async function readConfig(directory: string): Promise<HfConfig> {
  const found = await stat(directory).catch(() => null)
  if (found === null) throw new PosttrainError('ERR_INVALID_FILE', `${directory} does not exist`)
  if (!found.isDirectory())
    throw new PosttrainError('ERR_INVALID_FILE', `${directory} is not a folder with a model`)
  return (await readJson(join(directory, 'config.json'), true)) as HfConfig
}

/** generation_config.json, or an empty object. */
export async function readGenerationConfig(directory: string): Promise<Json> {
  return (await readJson(join(directory, 'generation_config.json'), false)) ?? {}
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
  const found = await stat(path).catch(() => null)
  if (found?.isFile()) return path
  const target = found === null ? await readlink(path).catch(() => null) : null
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    found !== null
      ? `${path} is not a file`
      : target !== null
        ? `${path} is a link to ${target}, which does not exist`
        : `${path} does not exist`,
  )
}

/** The weight files of a folder: model.safetensors, or the shards of its index. */
export async function weightFiles(directory: string): Promise<string[]> {
  // If both exist, transformers too takes the single file.
  const single = await lstat(join(directory, 'model.safetensors')).catch(() => null)
  if (single !== null) return [await inside(directory, 'model.safetensors')]
  const index = await readJson(join(directory, 'model.safetensors.index.json'), false)
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
  return await Promise.all([...names].map((name) => inside(directory, name)))
}
