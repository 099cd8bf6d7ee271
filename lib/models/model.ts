import type { Dtype } from '../addon/addon.js'
import { is, needArgument, needOptions } from '../arguments.js'
import { type Batch, Template, type Tokenizer, toPacked } from '../data/index.js'
import { needHubOptions } from '../files/hub/options.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import type { HfConfig } from './families/index.js'
import type { LoraOptions } from './options.generated.js'
import { openPeft } from './peft.js'
import type { Role } from './role.js'
import { checkedSave, type SaveOptions, writeAdapterFolder } from './save.js'
import { isList, listOf, needTermOptions } from './term-rules.js'
import {
  type BackwardOptions,
  countOf,
  type EvaluateOptions,
  type LossSums,
  type LossTerm,
  nativeTerms,
  sumsOf,
  type TermKind,
  type TermOf,
} from './terms.js'
import type { Parameter } from './weights.js'

/** The parts of a model besides its weights. */
export interface ModelParts {
  tokenizer: Tokenizer
  chatTemplate: string | null
  stopIds: readonly number[]
}

/**
 * A model in memory: weights that it may share with others, at most one active adapter, and a tokenizer. The common part
 * of `CausalLM` and `RewardModel`: adapters, parameters, losses and their gradients.
 */
export abstract class Model {
  readonly tokenizer: Tokenizer
  readonly device: string
  /** Precision of the weights in the forward pass. */
  readonly dtype: Dtype
  readonly vocabSize: number
  /** Maximum tokens of a document; null if the config sets no limit. */
  readonly contextLength: number | null
  readonly #role: Role
  /** Set by a training run with its own template if the tokenizer has none; saved as chat_template.jinja. */
  #chatTemplate: string | null
  #adopted: Template | null = null
  #stopIds: readonly number[]

  protected constructor(role: Role, { tokenizer, chatTemplate, stopIds }: ModelParts) {
    const { config, family, spec, device, dtype } = role.base
    this.tokenizer = tokenizer
    this.device = device
    this.dtype = dtype
    this.vocabSize = spec.vocabSize
    this.contextLength = family.contextLength(config)
    this.#role = role
    this.#chatTemplate = chatTemplate
    this.#stopIds = stopIds
  }

  /**
   * The role behind the model, for the modules that compute with it.
   *
   * @internal
   */
  get role(): Role {
    return this.#role
  }

  /**
   * A second model on the same weights in memory with its own choice of adapter, by default none: the reference of a
   * LoRA run is the base without the adapter. Each is disposed separately; the last one frees the weights.
   */
  abstract view(options?: { adapter?: string | null }): Promise<Model>

  /** An independent copy of the weights, without adapters. */
  abstract clone(): Promise<Model>

  /** Saves a folder that transformers opens, atomically. */
  abstract save(directory: string, options?: SaveOptions): Promise<void>

  /** config.json as it is saved. */
  get config(): HfConfig {
    return this.#role.base.config
  }

  /** Names of the adapters on this model's weights. */
  get adapters(): readonly string[] {
    return [...this.#role.base.adapters.keys()]
  }

  /** The adapter in use; null for the base alone. */
  get adapter(): string | null {
    return this.#role.adapter
  }

  /**
   * Adds a LoRA adapter (low-rank updates, arXiv 2106.09685) and activates it. From then on only the adapter is trained,
   * with the head of a reward model, and the base is frozen. A starts Kaiming-uniform and B as zero, so the model's
   * outputs do not change at first. Copies of modules (`modulesToSave`) and biases belong to the adapter alone.
   *
   * @throws PosttrainError ERR_INVALID_ARGUMENT for a name already in use, a module that does not exist, or an option
   *   without effect.
   */
  async addAdapter(name: string, options: LoraOptions = {}): Promise<void> {
    needArgument('addAdapter', 'the options', options, is.object)
    await this.#role.addAdapter(name, options)
  }

  /**
   * Loads an adapter in PEFT's format from a folder or the Hub, and activates it. What PiSSA or OLoRA took out of the
   * base at the start of its training is taken out again while the adapter is active.
   *
   * @throws PosttrainError ERR_INVALID_FILE if it belongs to another base, ERR_UNSUPPORTED_MODEL with the field of
   *   adapter_config.json that cannot be right here.
   */
  async loadAdapter(name: string, adapter: string, options: HubOptions = {}): Promise<void> {
    needArgument('loadAdapter', 'the adapter', adapter, is.path)
    needHubOptions('loadAdapter', options)
    const read = await openPeft(adapter, this.#role.base, options)
    await this.#role.loadAdapter(name, read)
    // A base without a chat template takes the one its adapter was trained with.
    if (read.chatTemplate !== null && this.#chatTemplate === null)
      this.adoptTemplate(Template.fromSource(read.chatTemplate))
  }

  /** Copies an adapter; training the first does not change the copy. */
  async copyAdapter(from: string, to: string): Promise<void> {
    await this.#role.base.copyAdapter(from, to)
  }

  /** Activates an adapter; null: the base alone. */
  async setAdapter(name: string | null): Promise<void> {
    await this.#role.setAdapter(name)
  }

  /** Saves the active adapter and the tokenizer as a folder that PEFT opens. */
  async saveAdapter(directory: string, options: { overwrite?: boolean } = {}): Promise<void> {
    needArgument('saveAdapter', 'the folder', directory, is.path)
    needOptions('saveAdapter', options, { overwrite: is.flag })
    const overwrite = options.overwrite === true
    await writeAdapterFolder(directory, { ...this.parts, role: this.#role, overwrite })
  }

  /**
   * Merges the active adapter into the weights in float32 and removes it; save() then writes a plain model. Where the
   * adapter gave a tied output projection other weights than the embedding, the two are no longer tied.
   */
  async mergeAdapter(): Promise<void> {
    await this.#role.mergeAdapter()
  }

  /** Source of the chat template for generation and saving; null if there is none. */
  get chatTemplate(): string | null {
    return this.#chatTemplate
  }

  /** The template of a training run on a model that had none: the default of later runs. */
  get adoptedTemplate(): Template | null {
    return this.#adopted
  }

  /** Ids that end a response: those of generation_config.json and config.json, and the template's terminators. */
  get stopIds(): readonly number[] {
    return this.#stopIds
  }

  /** Adopts the template of a training run: saved with the model if it had none; its terminators join the stop ids. */
  adoptTemplate(template: Template): void {
    needArgument('adoptTemplate', 'the template', template, is.a(Template, 'a Template'))
    if (this.#chatTemplate === null) this.#adopted = template.unbound
    this.#chatTemplate ??= template.sourceFor(this.tokenizer)
    this.#stopIds = [...new Set([...this.#stopIds, ...template.terminators(this.tokenizer)])]
  }

  /**
   * Accumulates the gradients of one loss term, or of several over one forward pass: the sum of coefficient times term,
   * divided by `normalizer`. Returns the sums of the term, or a list of sums for a list. For exact gradient accumulation
   * over several batches, pass the count of the whole step as the normalizer of each. A failed or aborted call leaves
   * the gradients unusable until `zeroGrad()`.
   *
   * ```ts
   * const { loss } = await model.backward(batch, { kind: 'crossEntropy' })
   * ```
   */
  async backward<Kind extends TermKind>(
    batch: Batch,
    term: TermOf<Kind>,
    options?: BackwardOptions,
  ): Promise<LossSums<Kind>>
  async backward<const Kinds extends readonly TermKind[]>(
    batch: Batch,
    terms: { readonly [I in keyof Kinds]: TermOf<Kinds[I]> },
    options?: BackwardOptions,
  ): Promise<{ -readonly [I in keyof Kinds]: LossSums<Kinds[I]> }>
  async backward(
    batch: Batch,
    given: LossTerm | readonly LossTerm[],
    asOptions: BackwardOptions = {},
  ): Promise<LossSums<TermKind> | LossSums<TermKind>[]> {
    needTermOptions('backward', asOptions)
    const { signal, normalizer: asked, ...options } = asOptions
    const packed = toPacked(batch)
    const terms = listOf(given)
    const normalizer = asked ?? countOf(packed, terms)
    // Without labels the loss and its gradients are zero.
    const divisor = normalizer === 0 ? 1 : normalizer
    const results = await this.#role.backward(
      packed,
      nativeTerms(terms),
      { ...options, normalizer: divisor },
      signal,
    )
    const sums = results.map((result) => sumsOf(result, normalizer))
    return isList(given) ? sums : sums[0]!
  }

  /** Returns the sums of `backward` without computing gradients. */
  async evaluate<Kind extends TermKind>(
    batch: Batch,
    term: TermOf<Kind>,
    options?: EvaluateOptions,
  ): Promise<LossSums<Kind>>
  async evaluate<const Kinds extends readonly TermKind[]>(
    batch: Batch,
    terms: { readonly [I in keyof Kinds]: TermOf<Kinds[I]> },
    options?: EvaluateOptions,
  ): Promise<{ -readonly [I in keyof Kinds]: LossSums<Kinds[I]> }>
  async evaluate(
    batch: Batch,
    given: LossTerm | readonly LossTerm[],
    asOptions: EvaluateOptions = {},
  ): Promise<LossSums<TermKind> | LossSums<TermKind>[]> {
    needTermOptions('evaluate', asOptions)
    const { signal, normalizer, ...options } = asOptions
    const results = await this.#role.evaluate(toPacked(batch), nativeTerms(listOf(given)), options, signal)
    const sums = results.map((result) => sumsOf(result, normalizer ?? result.count))
    return isList(given) ? sums : sums[0]!
  }

  /** All parameters by their names in the files; a tied head is listed once. */
  async parameters(): Promise<Parameter[]> {
    return await this.#role.parameters()
  }

  /** A copy of a parameter as float32, in the layout of the files. */
  async getParameter(name: string): Promise<{ shape: number[]; values: Float32Array }> {
    return await this.#role.getTensor(name, 'value')
  }

  /** A copy of a gradient. */
  async getGradient(name: string): Promise<{ shape: number[]; values: Float32Array }> {
    return await this.#role.getTensor(name, 'gradient')
  }

  async setParameter(name: string, values: Float32Array): Promise<void> {
    await this.#role.setTensor(name, values)
  }

  /** Sets all gradients to zero and clears the mark of a failed backward pass. */
  async zeroGrad(): Promise<void> {
    await this.#role.zeroGrad()
  }

  /** Writes only what is trained, the weights or the adapter, as one checkpoint file. */
  async saveWeights(path: string, signal?: AbortSignal): Promise<void> {
    await this.#role.saveTrained(path, signal)
  }

  /**
   * Reads a file that saveWeights wrote. The names, shapes and dtypes of its tensors are checked before the first weight
   * changes. Values that differ from their checksum, and a file that cannot be read to its end, are found out when their
   * turn comes: the weights are then partly those of the file, so load a sound one before the model is used.
   *
   * @throws PosttrainError ERR_INVALID_FILE naming the tensor, ERR_IO.
   */
  async loadWeights(path: string): Promise<void> {
    await this.#role.loadTrained(path)
  }

  /** Frees the weights. Running and later calls fail with ERR_DISPOSED. */
  async dispose(): Promise<void> {
    await this.#role.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /** The current tokenizer, template and stop ids, for a view, a clone or a saved folder. */
  protected get parts(): ModelParts {
    return { tokenizer: this.tokenizer, chatTemplate: this.#chatTemplate, stopIds: this.#stopIds }
  }

  /** The arguments of a save: the weights of the base, in their own dtype by default. */
  protected toSave(directory: string, options: SaveOptions) {
    return { ...this.parts, ...checkedSave(directory, options, this.#role) }
  }
}
