import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TensorInfo, WeightMapEntry } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import { adapterEntries, PREFIX } from './adapter-entries.js'
import {
  type AdaptedModel,
  type AdapterCopy,
  type AdapterModule,
  copyOf,
  fullMatch,
  isEmbedding,
  isSaved,
  type KnownModule,
  knownModules,
  knownWeights,
  LM_HEAD,
  sharedCopies,
  withoutRepeatedHead,
} from './adapter-modules.js'
import type { Base } from './base.js'
import { modelSource } from './hub.js'
import { type AdapterConfig, rankAndScale } from './lora.js'
import { type PeftConfig, readPeftConfig } from './peft-config.js'
import { shapeInFile } from './shapes.js'
import { SCORE } from './weights.js'

/** The weights in an adapter's folder. */
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors'

/** Name of the scalar head in the file of an adapter. */
const SCORE_IN_ADAPTER = `${PREFIX}score.weight`

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
  const { core } = base
  const { folder } = await modelSource(from, 'adapter', options)
  const written = await readPeftConfig(folder)
  const path = join(folder, ADAPTER_WEIGHTS)
  const { tensors } = await call(core, () => core.readHeader(path))
  const file = new AdapterFile(folder, written, tensors, base)
  const { config, scored } = file.read()
  // What the file repeats of the base unchanged is not held a second time.
  const frozen = config.copies.filter(({ trainable }) => !trainable)
  const [first] = frozen
  if (first !== undefined) {
    const entries = frozen.map(({ parameters, inFile, rows, transpose }) => ({
      name: `${PREFIX}${inFile[0]}`,
      parameter: parameters[0]!,
      ...(rows && { rows }),
      ...(transpose && { transpose }),
    }))
    const same = await call(core, (cancel) => core.sameTensors(base.handle, path, entries, cancel))
    config.copies = config.copies.filter((copy) => copy.trainable || !same[frozen.indexOf(copy)])
  }
  const chatTemplate = await readFile(join(folder, 'chat_template.jinja'), 'utf8').catch(() => null)
  const entries = [...adapterEntries(config), ...(scored ? [SCORE_ENTRY] : [])]
  return { folder, config, scored, chatTemplate, path, entries }
}

const SCORE_ENTRY: WeightMapEntry = { ...SCORE, name: SCORE_IN_ADAPTER }

/**
 * Tensors in an adapter's file, the scalar head included. As in PEFT the weights under updates of the embedding and the
 * output projection stand in the file with them, where `target_modules` names one of the two.
 */
export function peftEntries(config: AdapterConfig, scored: boolean): WeightMapEntry[] {
  const own = adapterEntries(config)
  const present = new Set(own.map(({ name }) => name))
  const repeated = namesEmbeddings(config) ? config.modules : []
  return [
    ...own,
    ...repeated.flatMap(({ name, linear }) => {
      const key = `${PREFIX}${name}.base_layer.weight`
      if ((linear !== 'embed' && linear !== 'head') || present.has(key)) return []
      return [{ name: key, parameter: `${linear}.weight` }]
    }),
    ...(scored ? [SCORE_ENTRY] : []),
  ]
}

/** PEFT's test whether embeddings are targets, which goes by these two names. */
function namesEmbeddings({ saved, modules }: AdapterConfig): boolean {
  const names = ['embed_tokens', LM_HEAD]
  const targets = saved.target_modules
  if (typeof targets !== 'string') return names.some((name) => (targets as string[]).includes(name))
  const paths = modules.map(({ name }) => name).filter((name) => names.includes(name.split('.').at(-1)!))
  return paths.some((path) => fullMatch(targets, path, 'target_modules'))
}

/** The adapter of a folder, from its config and the header of its file. */
class AdapterFile {
  readonly #where: string
  readonly #config: PeftConfig
  readonly #model: AdaptedModel
  readonly #present: Map<string, readonly number[]>
  readonly #scored: boolean

  constructor(
    directory: string,
    config: PeftConfig,
    tensors: readonly TensorInfo[],
    { family, spec }: Pick<Base, 'family' | 'spec'>,
  ) {
    this.#where = join(directory, ADAPTER_WEIGHTS)
    this.#config = config
    this.#present = new Map(tensors.map(({ name, shape }) => [name, shape]))
    const head = this.#present.get(SCORE_IN_ADAPTER)
    if (head !== undefined && head.join() !== `1,${spec.hiddenSize}`) {
      throw this.#invalid(
        `${SCORE_IN_ADAPTER} has shape [${head.join(', ')}], a reward head on this model has [1, ${spec.hiddenSize}]`,
      )
    }
    this.#scored = this.#present.delete(SCORE_IN_ADAPTER)
    this.#model = { family, spec, scored: this.#scored }
  }

  /** Every tensor must belong to this base, in its shape. Checked before the adapter is created, which freezes the base. */
  read(): { config: AdapterConfig; scored: boolean } {
    const { rank, alpha, dropout, rsLora, dora, saved } = this.#config
    const modules = knownModules(this.#model).flatMap((module) => this.#module(module))
    const copies = this.#copies(modules)
    const [stranger] = this.#present.keys()
    if (stranger !== undefined) throw this.#stranger(stranger)
    if (modules.length === 0 && copies.length === 0)
      throw this.#invalid('it has no update of any layer of this model: the adapter belongs to another base')
    return {
      config: { rank, alpha, dropout, rsLora, dora, seed: 0, modules: this.#tied(modules), copies, saved },
      scored: this.#scored,
    }
  }

  #invalid(message: string): PosttrainError {
    return new PosttrainError('ERR_INVALID_FILE', `${this.#where}: ${message}`)
  }

  #unsupported(message: string): PosttrainError {
    return new PosttrainError('ERR_UNSUPPORTED_MODEL', `${this.#where}: ${message}`)
  }

  /** The update of a module, if the file has one. */
  #module(known: KnownModule): AdapterModule[] {
    const { transpose, ...module } = known
    const { rankPattern, alphaPattern, takenOut, dora } = this.#config
    const at = `${PREFIX}${module.name}`
    const embedding = isEmbedding(module)
    const [a, b] = embedding
      ? [`${at}.lora_embedding_A`, `${at}.lora_embedding_B`]
      : [`${at}.lora_A.weight`, `${at}.lora_B.weight`]
    if (!this.#present.has(a)) return []
    const values = rankAndScale(this.#config, { rank: rankPattern, alpha: alphaPattern }, module.name)
    const weight = knownWeights(this.#model).find(({ name }) => name === `${module.name}.weight`)!
    const [rows, columns] = shapeInFile(this.#model.spec, {
      ...weight,
      transpose: false,
    }) as [number, number]
    const inputs = embedding ? rows : columns
    const outputs = embedding ? columns : rows
    this.#takeMatrix(a, [values.rank, inputs], 0, module.name)
    this.#takeMatrix(b, [outputs, values.rank], 1, module.name)
    if (dora) this.#take(`${at}.lora_magnitude_vector`, [outputs])
    if (takenOut === null || embedding) return [{ ...module, ...values }]
    this.#refuseTakenOut(takenOut, module, transpose)
    return [{ ...module, ...values, takenOut }]
  }

  #refuseTakenOut(init: 'pissa' | 'olora', module: Pick<AdapterModule, 'linear'>, transpose: boolean): void {
    const field = `init_lora_weights ${JSON.stringify(init)}`
    if (this.#config.dora) throw this.#unsupported(`${field} with use_dora is not supported`)
    if (init === 'olora' && transpose)
      throw this.#unsupported(`${field} fits no layer that is stored transposed, in PEFT neither`)
    if (module.linear === 'head' && this.#model.spec.tied) {
      throw this.#unsupported(
        `${field} of an output projection that is tied to the embedding changes the embedding too, which the file does not hold`,
      )
    }
  }

  /** Copies of weights and biases. What `modules_to_save` or `bias` does not name stays frozen, as in PEFT. */
  #copies(modules: readonly AdapterModule[]): AdapterCopy[] {
    const { modulesToSave, bias, ensureWeightTying } = this.#config
    const adapted = new Set(modules.map(({ name }) => name))
    const copies: AdapterCopy[] = []
    for (const weight of knownWeights(this.#model)) {
      const [, module, kind] = /^(.*)\.(\w+)$/.exec(weight.name)!
      const repeated = `${module}.base_layer.${kind}`
      const key = [weight.name, repeated].find((name) => this.#present.has(`${PREFIX}${name}`))
      if (key === undefined) continue
      this.#takeWeight(`${PREFIX}${key}`, shapeInFile(this.#model.spec, weight), weight)
      const biased = kind === 'bias' && (bias === 'all' || (bias === 'lora_only' && adapted.has(module!)))
      copies.push(copyOf(weight, key, biased || (key === weight.name && isSaved(weight.name, modulesToSave))))
    }
    const embedding = knownWeights(this.#model).find(({ parameter }) => parameter === 'embed.weight')!.name
    const tied = this.#model.spec.tied && !this.#scored
    if (tied && ensureWeightTying && copies.some(({ name }) => name === embedding))
      return sharedCopies(copies, embedding)
    return tied ? withoutRepeatedHead(copies, embedding) : copies
  }

  /** With ensure_weight_tying a tied head has the update of the embedding. */
  #tied(modules: readonly AdapterModule[]): AdapterModule[] {
    const embedding = modules.find(({ linear }) => linear === 'embed')
    const { spec } = this.#model
    if (!this.#config.ensureWeightTying || !spec.tied || embedding === undefined) return [...modules]
    if (this.#config.dora)
      throw this.#unsupported('ensure_weight_tying with use_dora is not supported for embeddings')
    return modules.map((module) =>
      module.linear === 'head' ? { ...module, sharedWith: embedding.name } : module,
    )
  }

  #take(name: string, needed: readonly number[]): void {
    const shape = this.#present.get(name)
    if (!this.#present.delete(name)) throw this.#invalid(`has no ${name}`)
    if (shape!.join() !== needed.join()) throw this.#otherShape(name, shape!, needed)
  }

  #otherShape(name: string, shape: readonly number[], needed: readonly number[]): PosttrainError {
    return this.#invalid(
      `${name} has shape [${shape.join(', ')}], this model requires [${needed.join(', ')}]: the adapter belongs to another base`,
    )
  }

  /** Takes A or B, whose rank is dimension `ranked`. */
  #takeMatrix(name: string, needed: readonly number[], ranked: number, module: string): void {
    const shape = this.#present.get(name)
    const [own, stated] = [shape?.[ranked], needed[ranked]]
    if (shape?.length === 2 && shape[1 - ranked] === needed[1 - ranked] && own !== stated) {
      throw this.#invalid(
        `${name} has rank ${own}, and adapter_config.json gives ${module} rank ${stated} (r, rank_pattern)`,
      )
    }
    this.#take(name, needed)
  }

  #takeWeight(name: string, needed: readonly number[], { parameter }: WeightMapEntry): void {
    const shape = this.#present.get(name)!
    const ofTokens = parameter === 'embed.weight' || parameter === 'head.weight'
    if (ofTokens && shape[0] !== needed[0] && shape[1] === needed[1]) {
      throw this.#invalid(
        `${name} has ${shape[0]} tokens and this model ${needed[0]}: the adapter was made on a base whose vocabulary was resized; load that base`,
      )
    }
    this.#take(name, needed)
  }

  #stranger(name: string): PosttrainError {
    const of = name.slice(PREFIX.length).split('.')
    const layers = this.#model.spec.layers.length
    const layer = Number(of.find((part) => /^\d+$/.test(part)) ?? -1)
    if (/\.base_layer\.|\.lora_(embedding_)?B/.test(name) || name.endsWith('lora_magnitude_vector'))
      return this.#invalid(
        `${name} belongs to an update whose other tensors are missing, or not of this model`,
      )
    if (name.startsWith(PREFIX) && layer >= layers)
      return this.#invalid(
        `${name} is of layer ${layer}, and this model has ${layers}: the adapter belongs to another base`,
      )
    return this.#invalid(
      `${name} does not belong to any layer of this model: the adapter belongs to another base`,
    )
  }
}
