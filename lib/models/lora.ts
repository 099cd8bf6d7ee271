import type { AdapterSpec } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import { custom, type OptionSet, option } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { lazily } from '../options/zod.js'
import {
  type AdaptedModel,
  type AdapterCopy,
  type AdapterModule,
  copyOf,
  inBlock,
  isNamed,
  isSaved,
  knownModules,
  LM_HEAD,
  savedWeights,
  sharedCopies,
  trainedBiases,
  valueOfPattern,
} from './adapter-modules.js'
import type { LoraOptions } from './options.generated.js'

/** Largest alpha, far below the largest float32. */
const MAX_ALPHA = 1e30

/** A number for each pattern of module names. */
const patterns = (integer: boolean, text: string) =>
  option(
    custom<Record<string, number>>(
      'Record<string, number>',
      (value) =>
        value !== null &&
        typeof value === 'object' &&
        Object.values(value).every(
          (number) =>
            typeof number === 'number' &&
            number > 0 &&
            number <= MAX_ALPHA &&
            (!integer || Number.isSafeInteger(number)),
        ),
      `must map patterns of module names to ${integer ? 'whole ' : ''}numbers above 0`,
    ).optional(),
    text,
    {
      placeholder: 'NAME=N',
      repeat: true,
      read: (given) => {
        const [, name, value] = /^(.+)=(.*)$/.exec(given) ?? []
        return name === undefined ? [given, Number.NaN] : [name, Number(value)]
      },
      collect: (values) => Object.fromEntries(values as [string, number][]),
    },
  )

/** Fields of `lora` in every recipe, and the options of `addAdapter`. */
export const loraFields = lazily((z) => ({
  rank: option(z.int().min(1).default(16), 'Rank of the low-rank updates (LoRA)'),
  alpha: option(
    z.number().gt(0).max(MAX_ALPHA).optional(),
    'Scale: updates are multiplied by alpha / rank (default: 2 * rank)',
  ),
  dropout: option(
    z.number().min(0).lt(1).default(0),
    'Dropout probability of the input of each update, in training; off in reward, dpo, ppo, grpo and rloo',
  ),
  targetModules: option(
    z.array(z.string().min(1)).min(1).optional(),
    "Layers to adapt, by the family's own names such as q_proj, embed_tokens or lm_head (default: every linear layer of the blocks)",
  ),
  layers: option(
    z.array(z.int().min(0)).min(1).optional(),
    'Numbers of the layers to adapt, from 0 (default: all)',
  ),
  rankPattern: patterns(
    true,
    'Another rank for modules whose names end with a pattern (rank_pattern of PEFT)',
  ),
  alphaPattern: patterns(
    false,
    'Another alpha for modules whose names end with a pattern (alpha_pattern of PEFT)',
  ),
  modulesToSave: option(
    z.array(z.string().min(1)).min(1).optional(),
    'Modules of which a full copy is trained and saved with the adapter, such as embed_tokens and lm_head',
  ),
  bias: option(
    z.enum(['none', 'all', 'lora_only']).default('none'),
    "Biases to train: none, all of the model's, or those of the adapted layers",
  ),
  ensureWeightTying: option(
    z.boolean().default(false),
    'One update, or one copy, for a token embedding and the output projection that is tied to it; otherwise each has its own',
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
    {
      option: 'ensureWeightTying',
      when: (_: unknown, { dora, ensureWeightTying }: Record<string, unknown>) =>
        dora === true && ensureWeightTying === true,
      because:
        'cannot be combined with dora, whose magnitudes belong to columns of an embedding and to rows of a head',
    },
  ],
} satisfies OptionSet

/** Configuration of an adapter. */
export interface AdapterConfig {
  rank: number
  alpha: number
  dropout: number
  rsLora: boolean
  dora: boolean
  seed: number
  modules: AdapterModule[]
  copies: AdapterCopy[]
  /** Fields of adapter_config.json that choose the modules, as they are saved. */
  saved: Readonly<Record<string, unknown>>
}

/** Rank and scale of a module. */
export function rankAndScale(
  { rank, alpha, rsLora }: Pick<AdapterConfig, 'rank' | 'alpha' | 'rsLora'>,
  patterns: { rank: Record<string, number>; alpha: Record<string, number> },
  module: string,
): { rank: number; scale: number } {
  const own = valueOfPattern(patterns.rank, module, 'rank_pattern') ?? rank
  const scaled = valueOfPattern(patterns.alpha, module, 'alpha_pattern') ?? alpha
  return { rank: own, scale: rsLora ? scaled / Math.sqrt(own) : scaled / own }
}

const wrong = (message: string) => new PosttrainError('ERR_INVALID_ARGUMENT', message)

/**
 * Resolves the options of an adapter. Throws ERR_INVALID_ARGUMENT for a target module that does not exist, or a pattern
 * that matches none.
 */
export function adapterConfig(model: AdaptedModel, options: LoraOptions): AdapterConfig {
  const { alpha: given, ...resolved } = resolveOptions(loraOptions, options)
  const { rank, rsLora, dropout, dora, seed, bias, layers, modulesToSave } = resolved
  const alpha = given ?? 2 * rank
  const { rankPattern = {}, alphaPattern = {} } = resolved
  const known = knownModules(model)
  const embedding = known.find(({ linear }) => linear === 'embed')!.name
  const chosen = chosenModules(model, known, resolved)
  const modules = chosen.map(({ transpose: _, ...module }): AdapterModule => {
    const values = rankAndScale(
      { rank, alpha, rsLora },
      { rank: rankPattern, alpha: alphaPattern },
      module.name,
    )
    return { ...module, ...values }
  })
  for (const pattern of [...Object.keys(rankPattern), ...Object.keys(alphaPattern)]) {
    if (modules.some(({ name }) => valueOfPattern({ [pattern]: 1 }, name, 'the pattern') === 1)) continue
    throw wrong(`rankPattern, alphaPattern: no adapted module has a name that ends with ${pattern}`)
  }
  const copies = [
    ...savedWeights(model, modulesToSave ?? []).map((weight) => copyOf(weight, weight.name, true)),
    ...trainedBiases(model, bias, new Set(modules.map(({ name }) => name)))
      .filter(({ weight }) => !isSaved(weight.name, modulesToSave ?? []))
      .map(({ key, weight }) => copyOf(weight, key, true)),
  ]
  const targets = resolved.targetModules ?? [...new Set(chosen.map(({ name }) => name.split('.').at(-1)!))]
  const saved = {
    target_modules: targets,
    ...(layers && { layers_to_transform: layers }),
    rank_pattern: rankPattern,
    alpha_pattern: alphaPattern,
    modules_to_save: modulesToSave ?? null,
    bias,
  }
  const config = { rank, alpha, dropout, rsLora, dora, seed, modules, copies, saved }
  return resolved.ensureWeightTying ? tied(model, config, embedding) : config
}

/** The same adapter with one update, or one copy, for the token embedding and a head that is tied to it. */
function tied(model: AdaptedModel, config: AdapterConfig, embedding: string): AdapterConfig {
  const without = (name: 'target_modules' | 'modules_to_save') => [
    ...((config.saved[name] as string[] | null) ?? []).filter((given) => !isNamed(LM_HEAD, given)),
    embedding,
  ]
  const saved = { ...config.saved, ensure_weight_tying: true }
  const weight = savedWeights(model, [embedding])[0]!
  const isEither = (name: string) => name === embedding || name === LM_HEAD
  if (model.spec.tied && !model.scored) {
    if (config.copies.some(({ inFile }) => isEither(inFile[0]!.replace(/\.weight$/, '')))) {
      const others = config.copies.filter(({ name }) => name !== weight.name)
      const copies = sharedCopies([copyOf(weight, weight.name, true), ...others], weight.name)
      return { ...config, copies, saved: { ...saved, modules_to_save: without('modules_to_save') } }
    }
    const targeted = config.modules.find(({ name }) => isEither(name))
    if (targeted !== undefined) {
      const { rank, scale } = targeted
      const modules: AdapterModule[] = [
        { name: embedding, layer: 0, linear: 'embed', rank, scale },
        ...config.modules.filter(({ name }) => !isEither(name)),
        { name: LM_HEAD, layer: 0, linear: 'head', rank, scale, sharedWith: embedding },
      ]
      return { ...config, modules, saved: { ...saved, target_modules: without('target_modules') } }
    }
  }
  throw wrong(
    model.spec.tied && !model.scored
      ? `ensureWeightTying has no effect: neither ${embedding} nor ${LM_HEAD} is in targetModules or modulesToSave`
      : 'ensureWeightTying has no effect: the output projection of this model is not tied to its embedding',
  )
}

/** The modules that the options choose. */
function chosenModules(
  model: AdaptedModel,
  known: ReturnType<typeof knownModules>,
  { targetModules, layers, modulesToSave }: Pick<LoraOptions, 'targetModules' | 'layers' | 'modulesToSave'>,
) {
  const { spec, scored } = model
  const names = (of: typeof known) => [...new Set(of.map(({ name }) => name.split('.').at(-1)))].join(', ')
  for (const target of targetModules ?? []) {
    if (known.some(({ name }) => isNamed(name, target))) continue
    throw wrong(
      scored && target === LM_HEAD
        ? `targetModules: a reward model has no ${LM_HEAD}`
        : `targetModules: the model has no layer ${target} to adapt; it has ${names(known)}`,
    )
  }
  for (const layer of layers ?? []) {
    if (layer < spec.layers.length) continue
    throw wrong(`layers: the model has no layer ${layer}; its layers are 0 to ${spec.layers.length - 1}`)
  }
  for (const name of modulesToSave ?? []) {
    if (savedWeights(model, [name]).length > 0) continue
    throw wrong(
      scored && name === LM_HEAD
        ? `modulesToSave: a reward model has no ${LM_HEAD}`
        : `modulesToSave: the model has no module ${name}`,
    )
  }
  const chosen = known.filter((module) => {
    if (isSaved(`${module.name}.weight`, modulesToSave ?? [])) return false
    if (!(targetModules?.some((target) => isNamed(module.name, target)) ?? inBlock(module))) return false
    if (layers === undefined || targetModules?.includes(module.name)) return true
    return inBlock(module) && layers.includes(module.layer)
  })
  if (chosen.length > 0) return chosen
  throw wrong('no module is left to adapt: see targetModules, layers and modulesToSave')
}

export function adapterSpec({ modules, copies, dropout, dora, seed }: AdapterConfig): AdapterSpec {
  return {
    modules,
    copies: copies.map(({ name, parameters, rows, trainable }) => ({
      name,
      parameters,
      trainable,
      ...(rows && { rows }),
    })),
    dropout,
    dora,
    seed,
  }
}

/** The options for a critic, which has no output projection. */
export function criticLora(options: LoraOptions): LoraOptions {
  const { ensureWeightTying: _, ...others } = options
  const kept = (names: readonly string[] | undefined) => names?.filter((name) => !isNamed(LM_HEAD, name))
  const ofOthers = (patterns: Readonly<Record<string, number>> | undefined) =>
    patterns && Object.fromEntries(Object.entries(patterns).filter(([name]) => !isNamed(LM_HEAD, name)))
  const [targetModules, modulesToSave] = [kept(options.targetModules), kept(options.modulesToSave)]
  return {
    ...others,
    targetModules: targetModules?.length === 0 ? undefined : targetModules,
    modulesToSave: modulesToSave?.length === 0 ? undefined : modulesToSave,
    rankPattern: ofOthers(options.rankPattern),
    alphaPattern: ofOthers(options.alphaPattern),
  }
}
