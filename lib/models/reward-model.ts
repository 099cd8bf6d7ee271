import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { call } from '../addon/call.js'
import { is, needArgument, needOptions } from '../arguments.js'
import { type Batch, Tokenizer, toPacked } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import { repositoryOf, repositoryUnlessPath } from '../files/hub/id.js'
import { asStored, Base, type LoadOptions, needLoadOptions, openCore } from './base.js'
import { CausalLM, checkVocabulary } from './causal-lm.js'
import { familyOf, type HfConfig } from './families/index.js'
import { readConfig, weightFiles } from './folder.js'
import { type ModelSource, modelSource } from './hub.js'
import { Model, type ModelParts } from './model.js'
import { readPeftConfig } from './peft-config.js'
import { readRole } from './reading.js'
import { Role } from './role.js'
import { type SaveOptions, writeModelFolder } from './save.js'
import { needRows } from './token-rows.js'
import { planWeights } from './weights.js'

/** Options of `RewardModel.load`. */
export interface RewardLoadOptions extends LoadOptions {
  /** A loaded model whose weights are shared if it is the adapter's base. Optional. */
  onto?: {
    /** The model whose weights are shared. Required. */
    model: CausalLM
    /** Folder or Hub id of that model, in the form in which the adapter names its base. Required. */
    directory: string
  }
}

function labelsOf(config: HfConfig): number {
  const names = Object.keys((config.id2label as object | undefined) ?? { 0: '', 1: '' }).length
  return typeof config.num_labels === 'number' ? config.num_labels : names
}

const isAdapter = async (directory: string) =>
  (await stat(join(directory, 'adapter_config.json')).catch(() => null)) !== null

/** Whether a folder holds a sequence classifier with one label. */
export async function isRewardModel(directory: string): Promise<boolean> {
  const config = await readConfig(directory)
  const [architecture] = (config.architectures as string[] | undefined) ?? []
  return architecture?.endsWith('ForSequenceClassification') === true && labelsOf(config) === 1
}

/** Opens the base of an adapter that has its own head: a reward model, or a language model with a zero head. */
export async function openScoredBase(model: string, options: LoadOptions): Promise<RewardModel> {
  const { folder } = await modelSource(model, 'reward', options)
  if (await isRewardModel(folder)) return await RewardModel.load(model, options)
  await using language = await CausalLM.load(model, options)
  return await RewardModel.fromCausalLM(language, { seed: null })
}

/** Loads an adapter with a head on its base, which is opened or shared. One of the Hub opens no path of this machine. */
async function loadAdapted(
  { folder: directory, name: given }: ModelSource,
  { onto, revision: _, ...options }: RewardLoadOptions,
): Promise<RewardModel> {
  const { base, revision } = await readPeftConfig(directory)
  const isOfHub = given !== directory
  const isThere = typeof base === 'string' && (await stat(base).catch(() => null)) !== null
  if (typeof base !== 'string' || (repositoryOf(base) === null && (isOfHub || !isThere))) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      isOfHub && typeof base === 'string'
        ? `the adapter ${given} of the Hub names the path ${JSON.stringify(base)} as its base, which is not opened: download the adapter, and set base_model_name_or_path in its adapter_config.json`
        : `${directory}/adapter_config.json: the base ${JSON.stringify(base ?? null)} is not a folder on this machine`,
    )
  }
  // A path of this machine may have the name of a repository.
  const repository =
    isThere && !isOfHub ? null : repositoryOf(base, typeof revision === 'string' ? revision : undefined)
  const loaded = onto === undefined ? null : await repositoryUnlessPath(onto.directory)
  const shared =
    onto !== undefined &&
    (repository === null || loaded === null
      ? repository === loaded && resolve(base) === resolve(onto.directory)
      : repository.id === loaded.id && repository.revision === loaded.revision)
  const reward = shared
    ? await RewardModel.fromCausalLM(onto.model, { seed: null })
    : await openScoredBase(
        repository === null ? base : `hf://${repository.id}@${repository.revision}`,
        options,
      )
  try {
    await reward.loadAdapter(`reward ${given}`, directory)
    return reward
  } catch (error) {
    await reward.dispose()
    throw error
  }
}

/** A prompt and its completion, as token ids. */
export interface PromptCompletion {
  promptIds: Int32Array
  completionIds: Int32Array
}

/**
 * A model that scores a text with one number: a decoder whose head `score` (no bias) is read at the last token. Its
 * files are Hugging Face sequence classification with num_labels 1. Also the critic of PPO, read at every token.
 *
 * ```ts
 * const reward = await RewardModel.load('./reward')
 * const [score] = await reward.scores([{ promptIds, completionIds }])
 * ```
 */
export class RewardModel extends Model {
  private constructor(role: Role, parts: ModelParts) {
    super(role, parts)
  }

  /**
   * Loads a sequence classifier with one label, saved by this package or by transformers, from a folder or the Hub. An
   * adapter of one is loaded with the base that it names, or on a loaded model with that base (`onto`).
   *
   * @throws PosttrainError ERR_INVALID_FILE, ERR_UNSUPPORTED_MODEL (more than one label, or no score head).
   */
  static async load(model: string, options: RewardLoadOptions = {}): Promise<RewardModel> {
    needArgument('RewardModel.load', 'the model', model, is.path)
    needLoadOptions('RewardModel.load', options)
    needOptions('RewardModel.load', options, { onto: is.object })
    const source = await modelSource(model, 'reward', options)
    const directory = source.folder
    if (await isAdapter(directory)) return await loadAdapted(source, options)
    const config = await readConfig(directory)
    const labels = labelsOf(config)
    if (labels !== 1) {
      throw new PosttrainError(
        'ERR_UNSUPPORTED_MODEL',
        `${directory}/config.json: a reward model has one label, this has ${String(labels)}; a language model becomes one with RewardModel.fromCausalLM or posttrain reward`,
      )
    }
    const family = familyOf(config)
    // A classifier has no output projection.
    const spec = { ...family.decoder(config), tied: true }
    const paths = await weightFiles(directory)
    const core = await openCore(options)
    const files = await call(core, () => planWeights(core, family, spec, paths, true))
    const base = await Base.create(core, { family, spec, config, source }, asStored(options, files))
    const others = async () => {
      const tokenizer = await Tokenizer.load(directory)
      checkVocabulary(tokenizer, spec)
      return tokenizer
    }
    const [role, tokenizer] = await readRole(base, files, others, { score: {}, signal: options.signal })
    const eos = [config.eos_token_id, tokenizer.eosId].flat()
    const stopIds = [...new Set(eos.filter((id): id is number => typeof id === 'number'))]
    return new RewardModel(role, { tokenizer, chatTemplate: tokenizer.chatTemplate, stopIds })
  }

  /**
   * Creates a reward model that shares the weights of a language model: training it without an adapter changes that
   * model too. The head is drawn from a normal distribution of standard deviation 1 / sqrt(hidden + 1), or starts as
   * zero with `seed: null`. `adapter`: name of an existing adapter.
   */
  static async fromCausalLM(
    model: CausalLM,
    options: { seed?: number | null; adapter?: string | null } = {},
  ): Promise<RewardModel> {
    needArgument('RewardModel.fromCausalLM', 'the model', model, is.a(CausalLM, 'a CausalLM'))
    needOptions('RewardModel.fromCausalLM', options, {
      seed: is.orNull(is.count),
      adapter: is.orNull(is.text),
    })
    const { seed = 0, adapter = null } = options
    const role = await Role.create(model.role.base, { adapter, score: seed === null ? {} : { seed } })
    return new RewardModel(role, {
      tokenizer: model.tokenizer,
      chatTemplate: model.chatTemplate,
      stopIds: model.stopIds,
    })
  }

  /** A second reward model on the same weights, with its own copy of the head. */
  override async view(options: { adapter?: string | null } = {}): Promise<RewardModel> {
    needOptions('view', options, { adapter: is.orNull(is.text) })
    return new RewardModel(await this.role.view(options.adapter), this.parts)
  }

  /** An independent copy of the weights and the head, without adapters. */
  override async clone(): Promise<RewardModel> {
    return new RewardModel(await this.role.clone(), this.parts)
  }

  /** The raw score of each text, read at its last token. */
  async scores(
    rows: readonly (PromptCompletion | Int32Array)[],
    options: { signal?: AbortSignal } = {},
  ): Promise<Float64Array> {
    needRows('scores', rows, true)
    needOptions('scores', options, { signal: is.signal })
    const texts = rows.map((row) =>
      row instanceof Int32Array ? row : Int32Array.from([...row.promptIds, ...row.completionIds]),
    )
    const offsets = new Int32Array(texts.length + 1)
    for (const [i, { length }] of texts.entries()) {
      if (length === 0) throw new PosttrainError('ERR_INVALID_ARGUMENT', `scores: text ${i} has no token`)
      offsets[i + 1] = offsets[i]! + length
    }
    const inputIds = new Int32Array(offsets.at(-1)!)
    for (const [i, text] of texts.entries()) inputIds.set(text, offsets[i])
    const { core, handle } = this.role
    return await call(core, (cancel) => core.scores(handle, { inputIds, offsets }, cancel), options.signal)
  }

  /** A critic's values, [T]: the head at the position that predicts each label of the batch; 0 where there is no label. */
  async values(batch: Batch, options: { signal?: AbortSignal } = {}): Promise<Float64Array> {
    needOptions('values', options, { signal: is.signal })
    const { core, handle } = this.role
    return await call(core, (cancel) => core.values(handle, toPacked(batch), cancel), options.signal)
  }

  /**
   * Saves a sequence classifier with one label, which has the same scores in transformers. Transformers reads the score
   * at the last token that is not the pad token, so the saved pad token must be one that no text ends with: the
   * model's own if it is not a stop token, else another special token.
   *
   * @throws PosttrainError ERR_INVALID_ARGUMENT if the tokenizer has no such token, or an adapter is in use.
   */
  override async save(directory: string, options: SaveOptions & { padToken?: string } = {}): Promise<void> {
    const toSave = this.toSave(directory, options)
    needOptions('save', options, { padToken: is.text })
    const { family } = this.role.base
    const pad = this.padFor(options.padToken)
    const { num_labels: _, ...config } = family.writeConfig(this.config)
    await writeModelFolder(directory, {
      ...toSave,
      config: {
        ...config,
        architectures: [family.classifier],
        id2label: { 0: 'LABEL_0' },
        label2id: { LABEL_0: 0 },
        pad_token_id: pad.id,
      },
      generationConfig: null,
      padToken: pad.token,
    })
  }

  /**
   * The pad token that save() writes: one that no text ends with, so that transformers finds the last token of a text.
   * Throws ERR_INVALID_ARGUMENT if there is none, or `padToken` is not one.
   */
  padFor(padToken?: string): { id: number; token: string } {
    if (padToken !== undefined) needArgument('padFor', 'padToken', padToken, is.text)
    const ends = new Set([...this.stopIds, this.tokenizer.eosId])
    if (padToken !== undefined) {
      const id = this.tokenizer.tokenToId(padToken)
      if (id !== undefined && !ends.has(id)) return { id, token: padToken }
      const why = id === undefined ? 'is not in the vocabulary' : 'ends a response'
      throw new PosttrainError('ERR_INVALID_ARGUMENT', `padToken ${JSON.stringify(padToken)} ${why}`)
    }
    const { padId } = this.tokenizer
    const special = this.tokenizer.specialTokens.filter(({ id }) => !ends.has(id))
    const found =
      special.find(({ id }) => id === padId) ??
      special.find(({ token }) => /pad|unk/i.test(token)) ??
      special[0]
    if (found !== undefined) return found
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'the tokenizer has no special token except those that end a response, and transformers would take the end of a response for padding: set option padToken to a token of the vocabulary that no response ends with',
    )
  }
}
