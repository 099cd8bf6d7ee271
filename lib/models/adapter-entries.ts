import type { WeightMapEntry } from '../addon/addon.js'
import { type AdapterModule, isEmbedding, isNamed, LM_HEAD } from './adapter-modules.js'
import type { AdapterConfig } from './lora.js'

/** PEFT's prefix of module names. */
export const PREFIX = 'base_model.model.'

/** Tensors of a module's update in the file: PEFT stores those of an embedding transposed, A after the vocabulary. */
function updateEntries(module: AdapterModule, dora: boolean): WeightMapEntry[] {
  const native = module.sharedWith ?? module.name
  const [at, a, b] = [`${PREFIX}${module.name}`, `${native}.lora_A`, `${native}.lora_B`]
  const magnitude = dora
    ? [{ name: `${at}.lora_magnitude_vector`, parameter: `${module.name}.lora_magnitude_vector` }]
    : []
  return isEmbedding(module)
    ? [
        { name: `${at}.lora_embedding_A`, parameter: b, transpose: true },
        { name: `${at}.lora_embedding_B`, parameter: a, transpose: true },
        ...magnitude,
      ]
    : [
        { name: `${at}.lora_A.weight`, parameter: a },
        { name: `${at}.lora_B.weight`, parameter: b },
        ...magnitude,
      ]
}

/** Tensors of adapter_model.safetensors and their native parameters. */
export function adapterEntries({ modules, copies, dora }: AdapterConfig): WeightMapEntry[] {
  return [
    ...modules.flatMap((module) => updateEntries(module, dora)),
    ...copies.flatMap(({ name, inFile, transpose }) =>
      inFile.map((key) => ({ name: `${PREFIX}${key}`, parameter: name, ...(transpose && { transpose }) })),
    ),
  ]
}

/** The adapter of a reward model or critic: without what a language model's has of the output projection. */
export function withoutHead(config: AdapterConfig): AdapterConfig {
  const isHead = (key: string) => key.startsWith(`${LM_HEAD}.`)
  const without = (names: unknown) =>
    Array.isArray(names) ? names.filter((name: string) => !isNamed(LM_HEAD, name)) : names
  const { target_modules, modules_to_save, ensure_weight_tying: _, ...saved } = config.saved
  return {
    ...config,
    modules: config.modules.filter(({ linear }) => linear !== 'head'),
    copies: config.copies
      .map((copy) => ({ ...copy, inFile: copy.inFile.filter((key) => !isHead(key)) }))
      .filter(({ inFile }) => inFile.length > 0),
    saved: {
      ...saved,
      target_modules: without(target_modules),
      modules_to_save: without(modules_to_save),
    },
  }
}
