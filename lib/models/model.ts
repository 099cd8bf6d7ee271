import type { Dtype } from '../addon/addon.js'
import { type Batch, Template, type Tokenizer, toPacked } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import type { HfConfig } from './families/index.js'
import type { LoraOptions } from './options.generated.js'
import { openPeft } from './peft.js'
import type { Parameter, Role } from './role.js'
import { type SaveOptions, writeAdapterFolder } from './save.js'
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

/** What a model is made of besides its weights. */
export interface ModelParts {
  tokenizer: Tokenizer
  chatTemplate: string | null
  stopIds: readonly number[]
}

/**
 * A model in memory: weights that it may share with others, an adapter upon them or none, and the tokenizer that they
 * belong to. What `CausalLM` and `RewardModel` have in common: adapters, single weights, losses and their gradients.
 */
export abstract class Model {
  /** config.json, as it will be saved. */
  readonly config: HfConfig
  readonly tokenizer: Tokenizer
  readonly device: string
  /** Of the weights that the forward uses. */
  readonly dtype: Dtype
  readonly vocabSize: number
  /** Tokens of a document at most; null where nothing says. */
  readonly contextLength: number | null
  readonly #role: Role
  /** Set by a training with a template where the tokenizer has none: saved as chat_template.jinja. */
  #chatTemplate: string | null
  #adopted: Template | null = null
  #stopIds: readonly number[]

  protected constructor(role: Role, { tokenizer, chatTemplate, stopIds }: ModelParts) {
    const { config, family, spec, device, dtype } = role.base
    this.config = config
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
   * The role behind the model, for the rooms that compute with it.
   *
   * @internal
   */
  get role(): Role {
    return this.#role
  }

  /**
   * A second model on the same weights in memory, with an adapter of its own or, by default, none: the reference of a
   * run is the same base with the adapter off. Each is disposed of alone; the weights go with the last.
   */
  abstract view(options?: { adapter?: string | null }): Promise<Model>

  /** The same weights a second time in memory, which neither shares with the other; adapters stay behind. */
  abstract clone(): Promise<Model>

  /** Saves a folder that transformers opens, whole or not at all. */
  abstract save(directory: string, options?: SaveOptions): Promise<void>

  /** Names of the adapters on this model's weights. */
  get adapters(): readonly string[] {
    return [...this.#role.base.adapters.keys()]
  }

  /** The adapter in use; null for the base alone. */
  get adapter(): string | null {
    return this.#role.adapter
  }

  /**
   * Adds low-rank updates (LoRA, arXiv 2106.09685) and puts them to use: from now on they alone are trained, with the
   * head of a reward model, and the base is frozen. A starts Kaiming-uniform, B as zero, so that nothing changes at
   * first.
   *
   * @throws PosttrainError ERR_INVALID_ARGUMENT for a name that is taken, or a target module that is not there.
   */
  async addAdapter(name: string, options: LoraOptions = {}): Promise<void> {
    await this.#role.addAdapter(name, options)
  }

  /**
   * Reads an adapter as PEFT writes it, from a folder or the Hub, and puts it to use. Throws ERR_INVALID_FILE for one of
   * another base.
   */
  async loadAdapter(name: string, adapter: string, options: HubOptions = {}): Promise<void> {
    const read = await openPeft(adapter, this.#role.base, options)
    await this.#role.loadAdapter(name, read)
    // A base that knows no chat is asked as its adapter was trained.
    if (read.chatTemplate !== null && this.#chatTemplate === null)
      this.adoptTemplate(Template.fromSource(read.chatTemplate))
  }

  /** A second adapter with the values of the first, which stays as it is while the first is trained on. */
  async copyAdapter(from: string, to: string): Promise<void> {
    await this.#role.base.copyAdapter(from, to)
  }

  /** Which adapter this model uses from now on; null: the base alone. */
  async setAdapter(name: string | null): Promise<void> {
    await this.#role.setAdapter(name)
  }

  /** Writes the adapter in use as a folder that PEFT opens, with the tokenizer beside it. */
  async saveAdapter(directory: string, options: { overwrite?: boolean } = {}): Promise<void> {
    const overwrite = options.overwrite === true
    await writeAdapterFolder(directory, { ...this.parts, role: this.#role, overwrite })
  }

  /** Adds the adapter in use to the weights, computed in float32, and takes it off: save() then writes a plain model. */
  async mergeAdapter(): Promise<void> {
    await this.#role.mergeAdapter()
  }

  /** Source of the chat template that generation and saving use; null where there is none. */
  get chatTemplate(): string | null {
    return this.#chatTemplate
  }

  /** The template that a training used where the model had none: what later ones take without being told. */
  get adoptedTemplate(): Template | null {
    return this.#adopted
  }

  /** Ids that end a response: every one of generation_config's, config's and the template's terminators. */
  get stopIds(): readonly number[] {
    return this.#stopIds
  }

  /** Notes the template that a training used: saved with the model where it had none, its terminator among the stop ids. */
  adoptTemplate(template: Template): void {
    if (this.#chatTemplate === null) this.#adopted = template
    this.#chatTemplate ??= template.sourceFor(this.tokenizer)
    const terminator = template.terminator(this.tokenizer)
    if (terminator !== null && !this.#stopIds.includes(terminator))
      this.#stopIds = [...this.#stopIds, terminator]
  }

  /**
   * Gradients of a loss term, or of several over one forward, added to those already there: the sum of the terms by
   * their coefficients, divided by `normalizer`. One term gives its sums, a list gives a list. To accumulate exactly
   * over several batches give all of them the count of the whole step. A failed or aborted call leaves the gradients
   * unusable until `zeroGrad()`.
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
    { signal, normalizer: asked, ...options }: BackwardOptions = {},
  ): Promise<LossSums<TermKind> | LossSums<TermKind>[]> {
    const packed = toPacked(batch)
    const terms = listOf(given)
    const normalizer = asked ?? countOf(packed, terms)
    // Without labels there is nothing to divide, and no gradient.
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

  /** The same sums without gradients. */
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
    { signal, normalizer, ...options }: EvaluateOptions = {},
  ): Promise<LossSums<TermKind> | LossSums<TermKind>[]> {
    const results = await this.#role.evaluate(toPacked(batch), nativeTerms(listOf(given)), options, signal)
    const sums = results.map((result) => sumsOf(result, normalizer ?? result.count))
    return isList(given) ? sums : sums[0]!
  }

  /** Every weight by its name in the files; a tied head is not listed twice. */
  async parameters(): Promise<Parameter[]> {
    return await this.#role.parameters()
  }

  /** A copy of a weight, as float32, in the layout of the files. */
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

  /** Sets all gradients to zero, and clears the mark of a failed backward. */
  async zeroGrad(): Promise<void> {
    await this.#role.zeroGrad()
  }

  /** Writes only what is trained, the weights or the adapter, as one file, for a checkpoint. */
  async saveWeights(path: string, signal?: AbortSignal): Promise<void> {
    await this.#role.saveTrained(path, signal)
  }

  /** Reads what saveWeights wrote. */
  async loadWeights(path: string): Promise<void> {
    await this.#role.loadTrained(path)
  }

  /** Frees the weights. Calls under way end with ERR_DISPOSED, later ones are refused. */
  async dispose(): Promise<void> {
    await this.#role.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /** The tokenizer, template and stop ids as they are now: those of a view, a clone and a saved folder. */
  protected get parts(): ModelParts {
    return { tokenizer: this.tokenizer, chatTemplate: this.#chatTemplate, stopIds: this.#stopIds }
  }

  /** What save() is given and finds: the weights of the base, in their own dtype by default. */
  protected toSave(options: SaveOptions) {
    const { adapter } = this.#role
    if (adapter !== null) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `save() writes the weights of the base, and the adapter ${adapter} is in use: saveAdapter() writes it, mergeAdapter() adds it to the weights`,
      )
    }
    return {
      ...this.parts,
      role: this.#role,
      dtype: options.dtype ?? (this.dtype === 'float64' ? 'float32' : this.dtype),
      overwrite: options.overwrite === true,
      signal: options.signal,
    }
  }
}

const isList = (terms: LossTerm | readonly LossTerm[]): terms is readonly LossTerm[] => Array.isArray(terms)
const listOf = (terms: LossTerm | readonly LossTerm[]) => (isList(terms) ? terms : [terms])
