import { createHash } from 'node:crypto'
import type { Core, DecoderSpec, Dtype, NativeParameter, TensorInfo, WeightMapEntry } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import type { Family } from './families/index.js'
import type { WeightFile } from './folder.js'
import { companionsOf, isQuantized, STATE } from './quantization.js'
import { shapeInFile } from './shapes.js'

export interface Parameter {
  /** Name in the files, such as `model.layers.0.self_attn.q_proj.weight`. */
  name: string
  shape: number[]
  /** Of the values in memory; `'nf4'`: in 4 bits. */
  dtype: Dtype | 'nf4'
  trainable: boolean
}

/** The parameters behind tensors of files, each once: what is tied stands under its first name. `plain`: dtype of the base. */
export function listParameters(
  entries: readonly WeightMapEntry[],
  native: readonly NativeParameter[],
  plain: Dtype,
): Parameter[] {
  const known = new Map(native.map((item) => [item.parameter, item]))
  const listed = new Set<string>()
  return entries.flatMap((entry) => {
    const { name, parameter, rows } = entry
    const part = `${parameter} ${rows}`
    if (listed.has(part)) return []
    listed.add(part)
    const { shape: whole, plainRows, trainable, ...kept } = known.get(parameter)!
    const dtype = plainRows.includes(rows?.[0] ?? 0) ? plain : kept.dtype
    return [{ name, shape: shapeOf(entry, whole), dtype, trainable }]
  })
}

/** Shape of a tensor in a file, of a parameter whose shape is `whole`. */
function shapeOf({ rows, transpose }: WeightMapEntry, whole: readonly number[]): number[] {
  const shape = rows === undefined ? [...whole] : [rows[1], ...whole.slice(1)]
  return transpose === true ? shape.toReversed() : shape
}

/** safetensors' names of the dtypes that weights have. */
const WEIGHT_DTYPES = ['F32', 'BF16', 'F16', 'F64']

/** Throws ERR_INVALID_FILE unless a file has each entry, by its header, in the shape of its parameter and as numbers. */
export function needTensors(
  path: string,
  tensors: readonly TensorInfo[],
  entries: readonly WeightMapEntry[],
  native: readonly NativeParameter[],
): void {
  const present = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const shapes = new Map(native.map(({ parameter, shape }) => [parameter, shape]))
  const wrong = (what: string) => new PosttrainError('ERR_INVALID_FILE', `${path} ${what}`)
  const missing = entries.filter(({ name }) => !present.has(name)).map(({ name }) => name)
  if (missing.length > 0) throw wrong(`has no ${listed(missing)}: it is not of what is trained here`)
  for (const entry of entries) {
    const { name, dtype, shape } = present.get(entry.name)!
    const asked = shapeOf(entry, shapes.get(entry.parameter)!)
    if (shape.length !== asked.length || shape.some((size, d) => size !== asked[d]))
      throw wrong(`has ${name} in the shape [${shape.join(', ')}], where the model has [${asked.join(', ')}]`)
    if (entry.nf4 !== true && !WEIGHT_DTYPES.includes(dtype))
      throw wrong(`has ${name} as ${dtype}; weights must be ${WEIGHT_DTYPES.join(', ')}`)
  }
}

/** The scalar head of a sequence classifier. */
export const SCORE: WeightMapEntry = { name: 'score.weight', parameter: 'score.weight' }

/** The first names of a list and the number of the others. */
export const listed = (names: readonly string[]) =>
  `${names.slice(0, 5).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`

/** Hash of the checksums of a file's tensors; undefined where it has none. */
export function saveOf(metadata: Readonly<Record<string, string>>): string | undefined {
  const checksums = metadata['posttrain.crc32c']
  return checksums === undefined ? undefined : createHash('sha256').update(checksums).digest('hex')
}

/**
 * Maps the tensors of the files to native parameters from the headers alone, so that a config that does not match the
 * files fails before any memory is allocated. Every parameter must exist with its shape, and every tensor must be known.
 * A base model saved without its head has no prefix; a tied head may be stored or not. `scored`: with the scalar head
 * of a sequence classifier. Files in 4 bits have their weights with companions, and keep some in a dtype of their own.
 */
export async function planWeights(
  core: Pick<Core, 'readHeader'>,
  family: Family,
  spec: DecoderSpec,
  files: readonly WeightFile[],
  scored = false,
): Promise<{ path: string; entries: WeightMapEntry[] }[]> {
  const headers = await Promise.all(
    files.map(async ({ path, save }) => {
      const header = await core.readHeader(path)
      if (save === undefined || saveOf(header.metadata) === save) return { path, ...header }
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${path} is not of the same save as model.safetensors.index.json: files of two models are mixed, or one was replaced; copy all of them again`,
      )
    }),
  )
  const owner = new Map<string, { path: string; shape: number[] }>()
  for (const { path, tensors } of headers) {
    for (const { name, shape } of tensors) {
      if (owner.has(name))
        throw new PosttrainError(
          'ERR_INVALID_FILE',
          `${name} is in both ${owner.get(name)!.path} and ${path}`,
        )
      owner.set(name, { path, shape })
    }
  }
  const hasCodes = [...owner.keys()].some((name) => name.endsWith(STATE))
  const known = new Set<string>()
  const missing: string[] = []
  const byFile = new Map<string, WeightMapEntry[]>()
  const wanted = [...family.weights(spec), ...(scored ? [SCORE] : [])]
  for (const entry of wanted) {
    const bare = entry.name.startsWith(family.prefix) ? entry.name.slice(family.prefix.length) : entry.name
    const name = [entry.name, bare].find((candidate) => owner.has(candidate))
    if (name === undefined) {
      missing.push(entry.name)
      continue
    }
    known.add(name)
    const { path, shape } = owner.get(name)!
    if (owner.has(`${name}${STATE}`)) {
      if (!isQuantized(entry.parameter)) {
        throw new PosttrainError(
          'ERR_UNSUPPORTED_MODEL',
          `${path}: ${name} is in 4 bits; only linear layers of the blocks are read so`,
        )
      }
      const parts = companionsOf(name).filter((part) => owner.has(part))
      for (const part of parts) known.add(part)
      const others = new Set(parts.map((part) => owner.get(part)!.path).filter((other) => other !== path))
      const companions = others.size > 0 && { companions: [...others] }
      byFile.set(path, [...(byFile.get(path) ?? []), { ...entry, name, nf4: true, ...companions }])
      continue
    }
    const asked = shapeInFile(spec, entry)
    if (shape.length !== asked.length || shape.some((size, d) => size !== asked[d])) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${path}: ${name} has shape [${shape.join(', ')}], the config requires [${asked.join(', ')}]`,
      )
    }
    const kept = hasCodes && isQuantized(entry.parameter) && { nf4: false }
    byFile.set(path, [...(byFile.get(path) ?? []), { ...entry, name, ...kept }])
  }
  if (missing.length > 0) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `the model's files have no ${listed(missing)}; config.json requires ${missing.length > 1 ? 'them' : 'it'}`,
    )
  }
  const unexpected = [...owner.keys()].filter((name) => {
    return (
      !known.has(name) &&
      !family.ignore.some((pattern) => pattern.test(name)) &&
      !(spec.tied && name === 'lm_head.weight')
    )
  })
  if (unexpected.length > 0) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `the model's files have tensors that config.json does not explain: ${listed(unexpected)}`,
    )
  }
  return [...byFile].map(([path, entries]) => ({ path, entries }))
}

/** Whether files have weights in 4 bits. */
export const inFourBits = (files: readonly { entries: WeightMapEntry[] }[]): boolean =>
  files.some(({ entries }) => entries.some(({ nf4 }) => nf4 === true))

const BYTES: Record<Dtype, number> = { float32: 4, bfloat16: 2, float16: 2, float64: 8 }

/** Largest size of one file. */
export const SHARD_BYTES = 5e9

export interface Shard {
  file: string
  entries: WeightMapEntry[]
}

/** model.safetensors.index.json. */
export interface WeightIndex {
  metadata: Record<string, unknown>
  /** File of each tensor. */
  weight_map: Record<string, string>
}

/** Splits the weights into files and lists them in an index; no index for a single file. */
export function shardsOf(
  entries: readonly { entry: WeightMapEntry; values: number }[],
  dtype: Dtype,
  limit = SHARD_BYTES,
): { shards: Shard[]; index: WeightIndex | null } {
  const groups: WeightMapEntry[][] = [[]]
  let bytes = 0
  let total = 0
  for (const { entry, values } of entries) {
    const size = values * BYTES[dtype]
    if (bytes > 0 && bytes + size > limit) {
      groups.push([])
      bytes = 0
    }
    groups.at(-1)!.push(entry)
    bytes += size
    total += size
  }
  if (groups.length === 1)
    return { shards: [{ file: 'model.safetensors', entries: groups[0]! }], index: null }
  const number = (i: number) => String(i).padStart(5, '0')
  const shards = groups.map((group, i) => ({
    file: `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`,
    entries: group,
  }))
  const map = Object.fromEntries(
    shards.flatMap(({ file, entries: group }) => group.map(({ name }) => [name, file])),
  )
  return { shards, index: { metadata: { total_size: total }, weight_map: map } }
}
