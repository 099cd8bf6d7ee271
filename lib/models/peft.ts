import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DecoderSpec, TensorInfo, WeightMapEntry } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import type { Base } from './base.js'
import type { Family } from './families/index.js'
import { modelSource } from './hub.js'
import { type AdapterConfig, adapterEntries, linearLayers, PREFIX } from './lora.js'
import { shapeInFile } from './shapes.js'
import { SCORE } from './weights.js'

/** The weights in an adapter's folder. */
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors'

/** Name of the scalar head in the file of an adapter. */
const SCORE_IN_ADAPTER = `${PREFIX}score.weight`

/** Shapes of the adapter's parameters. */
function adapterShapes(config: AdapterConfig, family: Family, spec: DecoderSpec): Map<string, number[]> {
  const weights = new Map(family.weights(spec).map((entry) => [entry.name, entry]))
  return new Map(
    config.modules.flatMap(({ name }): [string, number[]][] => {
      const { transpose: _, ...weight } = weights.get(`${name}.weight`)!
      const [rows, columns] = shapeInFile(spec, weight) as [number, number]
      return [
        [`${name}.lora_A`, [config.rank, columns]],
        [`${name}.lora_B`, [rows, config.rank]],
        [`${name}.lora_magnitude_vector`, [rows]],
      ]
    }),
  )
}

/** adapter_config.json, as PEFT writes it. */
export function peftConfig(
  config: AdapterConfig,
  of: { base: Base['source']; modelType: string; scored: boolean },
): Record<string, unknown> {
  const leaves = [...new Set(config.modules.map(({ name }) => name.split('.').at(-1)!))]
  return {
    peft_type: 'LORA',
    task_type: of.scored ? 'SEQ_CLS' : 'CAUSAL_LM',
    base_model_name_or_path: of.base?.name ?? null,
    ...(of.base?.revision && { revision: of.base.revision }),
    r: config.rank,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    target_modules: leaves,
    // gpt2's layers are stored transposed (Conv1D).
    fan_in_fan_out: of.modelType === 'gpt2',
    bias: 'none',
    use_rslora: config.rsLora,
    use_dora: config.dora,
    modules_to_save: of.scored ? ['score'] : null,
    init_lora_weights: true,
    inference_mode: true,
  }
}

/** Fields of adapter_config.json that can change the result, and the values with which they do not. */
const NEUTRAL: Record<string, readonly unknown[]> = {
  bias: ['none', undefined, null],
  // The others (pissa, olora, loftq, ...) subtract their initial update from the base, in PEFT again at every load.
  init_lora_weights: [true, false, 'gaussian', 'orthogonal', 'eva', undefined, null],
  rank_pattern: [undefined, null],
  alpha_pattern: [undefined, null],
  layer_replication: [undefined, null],
  trainable_token_indices: [undefined, null],
  target_parameters: [undefined, null],
  lora_bias: [false, undefined, null],
  alora_invocation_tokens: [undefined, null],
  arrow_config: [undefined, null],
  use_bdlora: [false, undefined, null],
  use_qalora: [false, undefined, null],
  kasa_config: [undefined, null],
  monteclora_config: [undefined, null],
}

const isEmpty = (value: unknown) =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0

/** adapter_config.json of a folder. Throws ERR_INVALID_FILE, or ERR_UNSUPPORTED_MODEL naming a field. */
export async function readPeftConfig(directory: string): Promise<Record<string, unknown>> {
  const path = join(directory, 'adapter_config.json')
  let config: Record<string, unknown>
  try {
    config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  } catch (cause) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${path} cannot be read: ${(cause as Error).message}; an adapter is a folder with adapter_config.json and adapter_model.safetensors`,
      { cause },
    )
  }
  if (config.peft_type !== 'LORA') {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `${path}: peft_type ${JSON.stringify(config.peft_type)} is not supported (LORA is)`,
    )
  }
  for (const [field, neutral] of Object.entries(NEUTRAL)) {
    const value = config[field]
    if (neutral.includes(value) || isEmpty(value)) continue
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `${path}: ${field} ${JSON.stringify(value)} is not supported`,
    )
  }
  return config
}

/** An adapter in a folder. */
export interface PeftAdapter {
  folder: string
  config: AdapterConfig
  /** Whether it has a scalar head. */
  scored: boolean
  /** The template that it was trained with, if the folder has it. */
  chatTemplate: string | null
  path: string
  entries: WeightMapEntry[]
}

/**
 * Reads the config and header of an adapter from a folder or the Hub; its values are not loaded yet. Throws
 * ERR_INVALID_FILE if it does not fit the base.
 */
export async function openPeft(from: string, base: Base, options: HubOptions): Promise<PeftAdapter> {
  const { core, family, spec } = base
  const { folder } = await modelSource(from, 'adapter', options)
  const written = await readPeftConfig(folder)
  const path = join(folder, ADAPTER_WEIGHTS)
  const { tensors } = await call(core, () => core.readHeader(path))
  const { config, scored } = readAdapter(folder, written, tensors, family, spec)
  const chatTemplate = await readFile(join(folder, 'chat_template.jinja'), 'utf8').catch(() => null)
  return { folder, config, scored, chatTemplate, path, entries: peftEntries(config, scored) }
}

/** Tensors in an adapter's file, the scalar head included. */
export function peftEntries(config: AdapterConfig, scored: boolean): WeightMapEntry[] {
  return [...adapterEntries(config), ...(scored ? [{ ...SCORE, name: SCORE_IN_ADAPTER }] : [])]
}

/**
 * The adapter of a folder, from its config and the header of its file: every tensor must belong to a linear layer of
 * this base, in its shape. `scored`: the file has a scalar head too.
 */
function readAdapter(
  directory: string,
  config: Record<string, unknown>,
  tensors: readonly TensorInfo[],
  family: Family,
  spec: DecoderSpec,
): { config: AdapterConfig; scored: boolean } {
  const where = join(directory, ADAPTER_WEIGHTS)
  const rank = config.r
  const alpha = config.lora_alpha
  if (typeof rank !== 'number' || typeof alpha !== 'number') {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory}/adapter_config.json: r and lora_alpha must be numbers`,
    )
  }
  const known = linearLayers(family, spec)
  const present = new Map(tensors.map(({ name, shape }) => [name, shape]))
  const head = present.get(SCORE_IN_ADAPTER)
  if (head !== undefined && head.join() !== `1,${spec.hiddenSize}`) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${where}: ${SCORE_IN_ADAPTER} has shape [${head.join(', ')}], a reward head on this model has [1, ${spec.hiddenSize}]`,
    )
  }
  const scored = present.delete(SCORE_IN_ADAPTER)
  const modules = known.filter(({ name }) => present.has(`${PREFIX}${name}.lora_A.weight`))
  const read: AdapterConfig = {
    rank,
    alpha,
    dropout: typeof config.lora_dropout === 'number' ? config.lora_dropout : 0,
    rsLora: config.use_rslora === true,
    dora: config.use_dora === true,
    seed: 0,
    modules,
  }
  // Checked before the adapter is created, which freezes the base.
  const asked = adapterShapes(read, family, spec)
  for (const { name, parameter } of adapterEntries(read)) {
    const [shape, needed] = [present.get(name), asked.get(parameter)!]
    if (!present.delete(name)) throw new PosttrainError('ERR_INVALID_FILE', `${where} has no ${name}`)
    if (shape!.join() !== needed.join()) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${where}: ${name} has shape [${shape!.join(', ')}], rank ${rank} on this model requires [${needed.join(', ')}]: the adapter belongs to another base`,
      )
    }
  }
  const [stranger] = present.keys()
  if (stranger !== undefined || modules.length === 0) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${where}: ${stranger ?? 'it'} ${stranger === undefined ? 'has no update of any layer' : 'does not belong to any linear layer'} of this model: the adapter belongs to another base`,
    )
  }
  return { config: read, scored }
}
