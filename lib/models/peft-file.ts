import { join } from 'node:path'
import type { TensorInfo, WeightMapEntry } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import { PREFIX } from './adapter-entries.js'
import {
  type AdaptedModel,
  type AdapterCopy,
  type AdapterModule,
  copyOf,
  isEmbedding,
  isSaved,
  type KnownModule,
  knownModules,
  knownWeights,
  sharedCopies,
  withoutRepeatedHead,
} from './adapter-modules.js'
import type { Base } from './base.js'
import { type AdapterConfig, rankAndScale } from './lora.js'
import type { PeftConfig } from './peft-config.js'
import { differenceToPeft, unsavedBiases } from './peft-shape.js'
import { shapeInFile } from './shapes.js'
import { SCORE } from './weights.js'

/** The weights in an adapter's folder. */
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors'

/** The scalar head in the file of an adapter. */
export const SCORE_ENTRY: WeightMapEntry = { ...SCORE, name: `${PREFIX}score.weight` }

/** A name without the `default` that the state of a PEFT model has in it; DoRA's of before PEFT 0.12 end with .weight. */
const withoutAdapterName = (name: string) =>
  name
    .replace(/\.(lora_[AB])\.default\.weight$/, '.$1.weight')
    .replace(/\.(lora_embedding_[AB])\.default$/, '.$1')
    .replace(/\.(lora_magnitude_vector)(\.default)?(\.weight)?$/, '.$1')

/** The adapter of a folder, from its config and the header of its file. */
export class AdapterFile {
  readonly #where: string
  readonly #config: PeftConfig
  readonly #model: AdaptedModel
  readonly #present: Map<string, readonly number[]>
  readonly #scored: boolean
  /** Names in the file that differ from those that PEFT writes today, by the latter. */
  readonly #named = new Map<string, string>()

  constructor(
    directory: string,
    config: PeftConfig,
    tensors: readonly TensorInfo[],
    { family, spec }: Pick<Base, 'family' | 'spec'>,
  ) {
    this.#where = join(directory, ADAPTER_WEIGHTS)
    this.#config = config
    this.#present = new Map(
      tensors.map(({ name, shape }) => {
        const plain = withoutAdapterName(name)
        if (plain !== name) this.#named.set(plain, name)
        return [plain, shape]
      }),
    )
    const head = this.#present.get(SCORE_ENTRY.name)
    if (head !== undefined && head.join() !== `1,${spec.hiddenSize}`) {
      throw this.#invalid(
        `${SCORE_ENTRY.name} has shape [${head.join(', ')}], a reward head on this model has [1, ${spec.hiddenSize}]`,
      )
    }
    this.#scored = this.#present.delete(SCORE_ENTRY.name)
    this.#model = { family, spec, scored: this.#scored }
  }

  /**
   * Every tensor must belong to this base, in its shape. Checked before the adapter is created, which freezes the base.
   * `unsaved`: copies that are not in the file and start as the base has them.
   */
  read(): { config: AdapterConfig; scored: boolean; unsaved: ReadonlySet<string> } {
    const { rank, alpha, dropout, rsLora, dora, saved } = this.#config
    const whole = new Set(this.#present.keys())
    const isThere = (key: string) => whole.has(`${PREFIX}${key}`) || this.#named.has(`${PREFIX}${key}`)
    const modules = knownModules(this.#model).flatMap((module) => this.#module(module))
    const copies = [...this.#copies(modules), ...this.#tokenRows(modules)]
    const [stranger] = this.#present.keys()
    if (stranger !== undefined) throw this.#stranger(stranger)
    if (modules.length === 0 && copies.length === 0)
      throw this.#invalid('it has no update of any layer of this model: the adapter belongs to another base')
    const difference = differenceToPeft(this.#config, this.#model, modules, isThere)
    if (difference !== null) throw this.#invalid(difference)
    const adapted = new Set(modules.map(({ name }) => name))
    const biases = unsavedBiases(this.#config, this.#model, adapted, isThere)
    copies.push(...biases.map(({ key, weight }) => copyOf(weight, key, true)))
    return {
      config: { rank, alpha, dropout, rsLora, dora, seed: 0, modules: this.#tied(modules), copies, saved },
      scored: this.#scored,
      unsaved: new Set(biases.map(({ key }) => key)),
    }
  }

  /** The name in the file of a tensor of PEFT. */
  nameInFile(name: string): string {
    return this.#named.get(name) ?? name
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
      const found = [weight.name, repeated].find((name) => this.#present.has(`${PREFIX}${name}`))
      if (found === undefined) continue
      this.#takeWeight(`${PREFIX}${found}`, shapeInFile(this.#model.spec, weight), weight)
      // Up to PEFT 0.5 an adapted layer was no base layer of another.
      const key = kind === 'bias' && bias !== 'none' && adapted.has(module!) ? repeated : found
      if (key !== found) this.#named.set(`${PREFIX}${key}`, `${PREFIX}${found}`)
      const biased = kind === 'bias' && (bias === 'all' || (bias === 'lora_only' && adapted.has(module!)))
      copies.push(copyOf(weight, key, biased || (key === weight.name && isSaved(weight.name, modulesToSave))))
    }
    const embedding = knownWeights(this.#model).find(({ parameter }) => parameter === 'embed.weight')!.name
    const tied = this.#model.spec.tied && !this.#scored
    if (tied && ensureWeightTying && copies.some(({ name }) => name === embedding))
      return sharedCopies(copies, embedding)
    return tied ? withoutRepeatedHead(copies, embedding) : copies
  }

  /** Copies of the rows of trained tokens. Those of an embedding are the tied head's too, unless it has others. */
  #tokenRows(modules: readonly AdapterModule[]): AdapterCopy[] {
    const { trainedTokens } = this.#config
    const { spec } = this.#model
    const of = (parameter: string, isAsked: (module: string) => boolean) => {
      const weight = knownWeights(this.#model).find((known) => known.parameter === parameter)
      const module = weight?.name.replace(/\.weight$/, '')
      const target = Object.keys(trainedTokens).find((name) => module?.endsWith(name) && isAsked(name))
      return module === undefined || target === undefined ? null : { module, tokens: trainedTokens[target]! }
    }
    const embedding = of('embed.weight', () => true)
    const ofHead = of('head.weight', (name) => name !== '')
    const shared =
      spec.tied && embedding !== null && (ofHead === null || ofHead.tokens.join() === embedding.tokens.join())
    const rows = [
      embedding && { ...embedding, parameters: ['embed.weight', ...(shared ? ['head.weight'] : [])] },
      shared || ofHead === null ? null : { ...ofHead, parameters: ['head.weight'] },
    ]
    return rows.flatMap((found) => {
      if (found === null) return []
      const { module, tokens, parameters } = found
      const key = `${module}.token_adapter.trainable_tokens_delta`
      const [first = 0] = tokens
      if (first < 0 || tokens.some((token, i) => token !== first + i))
        throw this.#unsupported(
          `trainable_token_indices ${JSON.stringify(tokens)} are not one token after another, which alone is supported`,
        )
      if (modules.some(({ name }) => name === module))
        throw this.#unsupported(
          `trainable_token_indices of ${module}, which is adapted too, are not supported`,
        )
      if (first + tokens.length > spec.vocabSize)
        throw this.#invalid(
          `trains the token ${tokens.at(-1)}, and this model has ${spec.vocabSize}: the adapter was made on a base whose vocabulary was resized; load that base`,
        )
      this.#take(`${PREFIX}${key}`, [tokens.length, spec.hiddenSize])
      return [{ name: key, parameters, trainable: true, inFile: [key], rows: [first, tokens.length] }]
    })
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
    const wrapped = /(^|\.)(module|_orig_mod|_fsdp_wrapped_module)\./.exec(name)
    if (wrapped !== null)
      return this.#invalid(
        `${name} has the ${wrapped[2]} of a wrapper (DistributedDataParallel, torch.compile or FSDP) in its name, which PEFT does not read either: save the PEFT model inside the wrapper`,
      )
    if (!name.startsWith(PREFIX))
      return this.#invalid(`${name} does not begin with ${PREFIX}, as all names of an adapter in PEFT do`)
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
