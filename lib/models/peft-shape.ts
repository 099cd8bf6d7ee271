import {
  type AdaptedModel,
  copyOf,
  fullMatch,
  inBlock,
  isNamed,
  isSaved,
  knownModules,
  savedWeights,
  trainedBiases,
} from './adapter-modules.js'
import { type AdapterConfig, rankAndScale } from './lora.js'
import type { PeftConfig } from './peft-config.js'

/** The shape of an adapter by its adapter_config.json alone, chosen as PEFT does. */
export function shapeOfPeft(
  config: PeftConfig,
  { family, spec }: Pick<AdaptedModel, 'family' | 'spec'>,
): AdapterConfig {
  const model = { family, spec, scored: config.scored }
  const { rank, alpha, dropout, rsLora, dora, targetModules, modulesToSave, bias, saved } = config
  const layers = [saved.layers_to_transform ?? []].flat() as number[]
  const isTarget = (name: string) => {
    if (typeof targetModules !== 'string') return targetModules.some((target) => isNamed(name, target))
    return fullMatch(targetModules, name, 'target_modules')
  }
  const allLinear = typeof targetModules === 'string' && targetModules.toLowerCase() === 'all-linear'
  const modules = knownModules(model).flatMap(({ transpose: _, ...module }) => {
    if (isSaved(`${module.name}.weight`, modulesToSave)) return []
    if (!(allLinear ? inBlock(module) : isTarget(module.name))) return []
    if (layers.length > 0 && !(inBlock(module) && layers.includes(module.layer))) return []
    const patterns = { rank: config.rankPattern, alpha: config.alphaPattern }
    return [{ ...module, ...rankAndScale(config, patterns, module.name) }]
  })
  const copies = [
    ...savedWeights(model, modulesToSave).map((weight) => copyOf(weight, weight.name, true)),
    ...trainedBiases(model, bias, new Set(modules.map(({ name }) => name))).map(({ key, weight }) =>
      copyOf(weight, key, true),
    ),
  ]
  return { rank, alpha, dropout, rsLora, dora, seed: 0, modules, copies, saved }
}
