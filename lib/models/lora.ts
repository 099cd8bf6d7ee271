import type { AdapterSpec, DecoderSpec, WeightMapEntry } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import { type OptionSet, option } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { lazily } from '../options/zod.js'
import type { Family } from './families/index.js'
import type { LoraOptions } from './options.generated.js'

/** Fields of `lora` in every recipe, and the options of `addAdapter`. */
export const loraFields = lazily((z) => ({
  rank: option(z.int().min(1).default(16), 'Rank of the low-rank updates (LoRA)'),
  alpha: option(
    z.number().gt(0).optional(),
    'Scale: updates are multiplied by alpha / rank (default: 2 * rank)',
  ),
  dropout: option(
    z.number().min(0).lt(1).default(0),
    'Dropout probability of the input of each update, in training; off in reward, dpo, ppo, grpo and rloo',
  ),
  targetModules: option(
    z.array(z.string().min(1)).min(1).optional(),
    "Linear layers to adapt, by the family's own names such as q_proj (default: every linear layer of the blocks)",
  ),
  rsLora: option(z.boolean().default(false), 'Scale by alpha / sqrt(rank) instead, for high ranks (rsLoRA)'),
  dora: option(
    z.boolean().default(false),
    'Train the magnitude of each weight row separately from its direction (DoRA)',
  ),
}))

/** Options of `addAdapter`. */
export const loraOptions = {
  name: 'addAdapter',
  schema: lazily((z) =>
    z.object({ ...loraFields(), seed: option(z.int().min(0).default(0), 'Random seed that initializes A') }),
  ),
  conflicts: [
    {
      option: 'dropout',
      when: (_: unknown, { dora, dropout }: Record<string, unknown>) => dora === true && dropout !== 0,
      because: 'cannot be combined with dora',
    },
  ],
} satisfies OptionSet

/** One adapted module. */
export type AdapterModule = AdapterSpec['modules'][number]

/** Configuration of an adapter. */
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

/** All linear layers of the blocks, by their names in the files. */
export function linearLayers(family: Family, spec: DecoderSpec): AdapterModule[] {
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

/** Resolves the options of an adapter. Throws ERR_INVALID_ARGUMENT for a target module that does not exist. */
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

/** PEFT's prefix of module names. */
export const PREFIX = 'base_model.model.'

/** Tensors of adapter_model.safetensors and their native parameters. */
export function adapterEntries(config: AdapterConfig): WeightMapEntry[] {
  return config.modules.flatMap(({ name }) => [
    { name: `${PREFIX}${name}.lora_A.weight`, parameter: `${name}.lora_A` },
    { name: `${PREFIX}${name}.lora_B.weight`, parameter: `${name}.lora_B` },
    ...(config.dora
      ? [{ name: `${PREFIX}${name}.lora_magnitude_vector`, parameter: `${name}.lora_magnitude_vector` }]
      : []),
  ])
}
