import { PosttrainError } from '../errors.js'
import {
  type AdaptedModel,
  type AdapterModule,
  copyOf,
  fullMatch,
  inBlock,
  isNamed,
  isSaved,
  type KnownModule,
  knownModules,
  LM_HEAD,
  savedWeights,
  trainedBiases,
} from './adapter-modules.js'
import { type AdapterConfig, rankAndScale } from './lora.js'
import type { PeftConfig } from './peft-config.js'
import { listed } from './weights.js'

/**
 * The modules that an adapter_config.json chooses, as PEFT does; null for the default targets of an older PEFT. Throws
 * ERR_INVALID_FILE for an expression that is not read here.
 */
function chosenByPeft(config: PeftConfig, model: AdaptedModel): KnownModule[] | null {
  const { targetModules: targets, excludeModules: excluded, modulesToSave, layers, layersPattern } = config
  if (targets.length === 0 || layersPattern.some((pattern) => !/^\w+$/.test(pattern))) return null
  const isIn = (module: KnownModule, names: string | readonly string[], field: string) =>
    typeof names === 'string'
      ? fullMatch(names, module.name, field)
      : names.some((name) => isNamed(module.name, name))
  const isOfLayer = ({ name, layer, ...module }: KnownModule) =>
    inBlock(module) &&
    layers.includes(layer) &&
    (layersPattern.length === 0 ||
      layersPattern.some((pattern) => new RegExp(`(^|\\.)${pattern}\\.\\d+\\.`).test(name)))
  const isChosen = (module: KnownModule) => {
    if (isIn(module, excluded, 'exclude_modules') || isSaved(`${module.name}.weight`, modulesToSave))
      return false
    if (typeof targets === 'string' && targets.toLowerCase() === 'all-linear') return inBlock(module)
    if (!isIn(module, targets, 'target_modules')) return false
    return (
      typeof targets === 'string' || layers.length === 0 || targets.includes(module.name) || isOfLayer(module)
    )
  }
  const modules = knownModules(model)
  const chosen = modules.filter(isChosen)
  if (!config.ensureWeightTying || !model.spec.tied) return chosen
  // Both of a tied pair, where one is chosen.
  const isPair = ({ name, linear }: KnownModule) => linear === 'embed' || name === LM_HEAD
  return chosen.some(isPair) ? modules.filter((module) => isPair(module) || chosen.includes(module)) : chosen
}

/** The names of chosen modules; null where they cannot be known. */
function namesByPeft(config: PeftConfig, model: AdaptedModel): string[] | null {
  try {
    return chosenByPeft(config, model)?.map(({ name }) => name) ?? null
  } catch {
    return null
  }
}

/** The biases that `bias` trains, where the file has none of them: PEFT up to 0.5 saved none for `lora_only`. */
export function unsavedBiases(
  { bias }: PeftConfig,
  model: AdaptedModel,
  adapted: ReadonlySet<string>,
  isThere: (key: string) => boolean,
): ReturnType<typeof trainedBiases> {
  const biases = trainedBiases(model, bias, adapted)
  return biases.some(({ key, weight }) => isThere(key) || isThere(weight.name)) ? [] : biases
}

/**
 * What a file has less or more than its adapter_config.json says, as the end of a sentence; null where the two agree. Both
 * are an adapter in part, which PEFT loads with a warning.
 */
export function differenceToPeft(
  config: PeftConfig,
  model: AdaptedModel,
  modules: readonly Pick<AdapterModule, 'name'>[],
  isThere: (key: string) => boolean,
): string | null {
  const inFile = new Set(modules.map(({ name }) => name))
  const partial = 'the file is incomplete, or of another adapter'
  const chosen = namesByPeft(config, model) ?? [...inFile]
  const missing = chosen.filter((name) => !inFile.has(name))
  if (missing.length > 0)
    return `it has no update of ${listed(missing)}, which target_modules in adapter_config.json names: ${partial}`
  const extra = [...inFile].filter((name) => !chosen.includes(name))
  if (extra.length > 0)
    return `it has an update of ${listed(extra)}, which target_modules in adapter_config.json does not name, so that PEFT leaves it out: name it there, or remove it`
  // One of a tied pair stands for both.
  const isTied = ({ parameter }: { parameter: string }) =>
    model.spec.tied && (parameter === 'embed.weight' || parameter === 'head.weight')
  const unsaved = new Set(unsavedBiases(config, model, inFile, isThere).map(({ key }) => key))
  const lost = [
    ...savedWeights(model, config.modulesToSave).flatMap((weight) => (isTied(weight) ? [] : [weight.name])),
    ...trainedBiases(model, config.bias, inFile).map(({ key }) => key),
  ].filter((key) => !isThere(key) && !unsaved.has(key))
  if (lost.length === 0) return null
  return `it has no ${listed(lost)}, which modules_to_save or bias in adapter_config.json names: ${partial}`
}

/**
 * The shape of an adapter by its adapter_config.json alone. Throws ERR_INVALID_FILE where that does not say, or names no
 * module of the model.
 */
export function shapeOfPeft(
  config: PeftConfig,
  { family, spec }: Pick<AdaptedModel, 'family' | 'spec'>,
): AdapterConfig {
  const model = { family, spec, scored: config.scored }
  const { rank, alpha, dropout, rsLora, dora, modulesToSave, bias, saved } = config
  const patterns = { rank: config.rankPattern, alpha: config.alphaPattern }
  const chosen = chosenByPeft(config, model)
  if (chosen === null || (chosen.length === 0 && modulesToSave.length === 0)) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `adapter_config.json: target_modules ${JSON.stringify(config.targetModules)} ${chosen === null ? 'leaves the modules to a default of PEFT' : 'names no module of this model'}: name those that the adapter updates`,
    )
  }
  const modules = chosen.map(({ transpose: _, ...module }) => ({
    ...module,
    ...rankAndScale(config, patterns, module.name),
  }))
  const copies = [
    ...savedWeights(model, modulesToSave).map((weight) => copyOf(weight, weight.name, true)),
    ...trainedBiases(model, bias, new Set(modules.map(({ name }) => name))).map(({ key, weight }) =>
      copyOf(weight, key, true),
    ),
  ]
  return { rank, alpha, dropout, rsLora, dora, seed: 0, modules, copies, saved }
}
