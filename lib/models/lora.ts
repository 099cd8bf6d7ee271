import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AdapterSpec, DecoderSpec, TensorInfo, WeightMapEntry } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import { type OptionSet, option } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { lazily } from '../options/zod.js'
import type { SharedBase } from './base.js'
import type { Family } from './families/index.js'
import type { LoraOptions } from './options.generated.js'
import { shapeInFile } from './shapes.js'

/** Fields of `lora` in every recipe, and the options of `addAdapter`. */
export const loraFields = lazily((z) => ({
  rank: option(z.int().min(1).default(16), 'Rank of the low-rank updates (LoRA)'),
  alpha: option(
    z.number().gt(0).optional(),
    'The updates are multiplied by alpha / rank (default: 2 * rank)',
  ),
  dropout: option(
    z.number().min(0).lt(1).default(0),
    'Of the input of each update while it is trained; off in reward, DPO, PPO, GRPO and RLOO',
  ),
  targetModules: option(
    z.array(z.string().min(1)).min(1).optional(),
    "Which layers, by the family's own names such as q_proj (default: every linear layer of the blocks)",
  ),
  rsLora: option(z.boolean().default(false), 'alpha / sqrt(rank) instead: for high ranks (rsLoRA)'),
  dora: option(z.boolean().default(false), 'Train the length of each row apart from its direction (DoRA)'),
}))

/** Options of `addAdapter`. */
export const loraOptions = {
  name: 'addAdapter',
  schema: lazily((z) =>
    z.object({ ...loraFields(), seed: option(z.int().min(0).default(0), 'Decides where A starts') }),
  ),
  conflicts: [
    {
      option: 'dropout',
      when: (_: unknown, { dora, dropout }: Record<string, unknown>) => dora === true && dropout !== 0,
      because: 'cannot stand beside dora',
    },
  ],
} satisfies OptionSet

/** One adapted module. */
export type AdapterModule = AdapterSpec['modules'][number]

/** What an adapter is, besides its values. */
export interface AdapterConfig {
  rank: number
  alpha: number
  dropout: number
  rsLora: boolean
  dora: boolean
  seed: number
  modules: AdapterModule[]
}

const LINEAR = /^layers\.(\d+)\.(qkv|out|up|down)\.weight$/

/** Every linear layer of the blocks by its name in the files. */
function linearLayers(family: Family, spec: DecoderSpec): AdapterModule[] {
  return family.weights(spec).flatMap(({ name, parameter, rows }) => {
    const [, layer, linear] = LINEAR.exec(parameter) ?? []
    if (linear === undefined) return []
    return [
      {
        name: name.replace(/\.weight$/, ''),
        layer: Number(layer),
        linear: linear as AdapterModule['linear'],
        ...(rows === undefined ? {} : { rows }),
      },
    ]
  })
}

/** An adapter from its options, defaults filled in. Throws ERR_INVALID_ARGUMENT for a module that is not there. */
export function adapterConfig(family: Family, spec: DecoderSpec, options: LoraOptions): AdapterConfig {
  const { alpha, targetModules, ...resolved } = resolveOptions(loraOptions, options)
  const known = linearLayers(family, spec)
  const named = (module: AdapterModule, name: string) =>
    module.name === name || module.name.endsWith(`.${name}`)
  for (const name of targetModules ?? []) {
    if (known.some((module) => named(module, name))) continue
    const names = [...new Set(known.map((module) => module.name.split('.').at(-1)))]
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `targetModules: the model has no linear layer ${name} in its blocks; it has ${names.join(', ')}`,
    )
  }
  return {
    ...resolved,
    alpha: alpha ?? 2 * resolved.rank,
    modules: known.filter((module) => targetModules?.some((name) => named(module, name)) ?? true),
  }
}

export function adapterSpec(config: AdapterConfig): AdapterSpec {
  const { modules, rank, alpha, dropout, dora, seed } = config
  return { modules, rank, dropout, dora, seed, scale: config.rsLora ? alpha / Math.sqrt(rank) : alpha / rank }
}

/** What PEFT puts before the names of the model's own modules. */
const PREFIX = 'base_model.model.'
/** Its name for the scalar head, which goes into the same file. */
export const SCORE_IN_ADAPTER = `${PREFIX}score.weight`

/** Tensors of adapter_model.safetensors and where they live. */
export function adapterEntries(config: AdapterConfig): WeightMapEntry[] {
  return config.modules.flatMap(({ name }) => [
    { name: `${PREFIX}${name}.lora_A.weight`, parameter: `${name}.lora_A` },
    { name: `${PREFIX}${name}.lora_B.weight`, parameter: `${name}.lora_B` },
    ...(config.dora
      ? [{ name: `${PREFIX}${name}.lora_magnitude_vector`, parameter: `${name}.lora_magnitude_vector` }]
      : []),
  ])
}

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
  of: { base: SharedBase['source']; modelType: string; scored: boolean },
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

/** Fields of adapter_config.json that would change the result, and the values with which they do not. */
const NEUTRAL: Record<string, readonly unknown[]> = {
  bias: ['none', undefined, null],
  // The others (pissa, olora, loftq, ...) take their start out of the base's weights, in PEFT again at each loading.
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

/**
 * The adapter of a folder, from its config and the header of its file: every tensor must belong to a linear layer of
 * this base, in its shape. `scored`: the file has a scalar head too.
 */
export function readAdapter(
  directory: string,
  config: Record<string, unknown>,
  tensors: readonly TensorInfo[],
  family: Family,
  spec: DecoderSpec,
): { config: AdapterConfig; scored: boolean } {
  const where = join(directory, 'adapter_model.safetensors')
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
      `${where}: ${SCORE_IN_ADAPTER} has shape [${head.join(', ')}], a reward model's head on this model has [1, ${spec.hiddenSize}]`,
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
  // Before an adapter is made, which freezes the base.
  const asked = adapterShapes(read, family, spec)
  for (const { name, parameter } of adapterEntries(read)) {
    const [shape, needed] = [present.get(name), asked.get(parameter)!]
    if (!present.delete(name)) throw new PosttrainError('ERR_INVALID_FILE', `${where} has no ${name}`)
    if (shape!.join() !== needed.join()) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${where}: ${name} has shape [${shape!.join(', ')}], rank ${rank} on this model asks for [${needed.join(', ')}]: the adapter was made for another base`,
      )
    }
  }
  const [stranger] = present.keys()
  if (stranger !== undefined || modules.length === 0) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${where}: ${stranger ?? 'it'} ${stranger === undefined ? 'has no update of any layer' : 'does not belong to any linear layer'} of this model: the adapter was made for another base`,
    )
  }
  return { config: read, scored }
}
