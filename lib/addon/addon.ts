/**
 * The whole boundary between TypeScript and the native core, typed by hand.
 *
 * Everything that crosses it is data: opaque handles, typed arrays and plain objects. Every call that
 * computes returns a Promise and runs as one job, in order, on the one torch thread of the process.
 *
 * Shapes: T tokens of a packed batch, D documents, V vocabulary, B rows of a generation session.
 */

declare const brand: unique symbol
interface Handle<Kind extends string> {
  readonly [brand]: Kind
}
/** Weights in memory. */
export type BaseHandle = Handle<'base'>
/** Low-rank updates of the linear layers of one base. */
export type AdapterHandle = Handle<'adapter'>
/** A base, an optional adapter and a head: what is trained, evaluated and sampled from. */
export type RoleHandle = Handle<'role'>
export type OptimizerHandle = Handle<'optimizer'>
/** A running generation: prompts, KV cache, sampler. */
export type SessionHandle = Handle<'session'>
/** A flag that a running job looks at between layers, micro-batches and tokens. */
export type CancelHandle = Handle<'cancel'>

export type Dtype = 'float32' | 'bfloat16' | 'float16' | 'float64'

export interface NormSpec {
  kind: 'rms' | 'layer'
  eps: number
}

/** Kinds and fields as in Hugging Face's `rope_parameters`; frequencies are computed natively. */
export interface RopeSpec {
  kind: 'default' | 'linear' | 'llama3' | 'yarn'
  theta: number
  factor?: number
  lowFreqFactor?: number
  highFreqFactor?: number
  originalMaxPositions?: number
  betaFast?: number
  betaSlow?: number
  attentionFactor?: number
  mscale?: number
  mscaleAllDim?: number
  truncate?: boolean
}

export interface LayerSpec {
  /** Query heads, key / value heads, width of one head. */
  heads: number
  kvHeads: number
  headDim: number
  qkvBias: boolean
  outBias: boolean
  /** RMSNorm over each head of q and k before the rotation (qwen3). */
  qkNorm: boolean
  /** A token sees itself and the `window - 1` tokens before it; null sees all. */
  window: number | null
  /** null: no rotary embedding. */
  rope: RopeSpec | null
  mlp: {
    kind: 'gated' | 'plain'
    activation: 'silu' | 'gelu' | 'geluTanh' | 'relu'
    intermediateSize: number
    bias: boolean
  }
}

export interface DecoderSpec {
  vocabSize: number
  hiddenSize: number
  /** Rows of a learned position embedding; null where positions are rotary. */
  learnedPositions: number | null
  /**
   * As an input this token gets no gradient (its row of a tied embedding still gets the head's); absent: none such.
   * Transformers makes its embeddings so wherever the config names a pad token.
   */
  paddingId?: number
  norm: NormSpec
  /** The output projection is the token embedding. */
  tied: boolean
  layers: LayerSpec[]
}

/**
 * One tensor of a Hugging Face file and where it lives natively. Read forward it loads, read backward it saves.
 *
 * Native parameters (matrices are [out, in]):
 *   embed.weight [V, hidden]   positions.weight [P, hidden]   norm.weight  norm.bias   head.weight [V, hidden] (untied only)
 *   layers.<i>.attentionNorm.weight / .bias    layers.<i>.mlpNorm.weight / .bias
 *   layers.<i>.qkv.weight [(heads + 2 kvHeads) headDim, hidden] / .bias: q rows, then k, then v
 *   layers.<i>.qNorm.weight  layers.<i>.kNorm.weight [headDim]
 *   layers.<i>.out.weight [hidden, heads * headDim] / .bias
 *   layers.<i>.up.weight [intermediate, hidden] / .bias; gated: [2 intermediate, hidden], gate rows then up rows
 *   layers.<i>.down.weight [hidden, intermediate] / .bias
 *   of an adapter: <module>.lora_A [rank, in]   <module>.lora_B [out, rank]   <module>.lora_magnitude_vector [out]
 *   of a scalar head: score.weight [1, hidden]
 */
export interface WeightMapEntry {
  /** Key in the file, such as `model.layers.0.self_attn.q_proj.weight`. */
  name: string
  /** Native parameter, such as `layers.0.qkv.weight`. */
  parameter: string
  /** [start, count] of the native rows this tensor holds; all rows when absent. */
  rows?: [number, number]
  /** The file holds the transpose (gpt2's Conv1D). */
  transpose?: boolean
}

export interface TensorInfo {
  name: string
  /** safetensors' own names: F32, BF16, F16, F64, I64, ... */
  dtype: string
  shape: number[]
}

export interface PackedBatch {
  /** Token ids, all documents one after another, [T]. */
  inputIds: Int32Array
  /** Document d is tokens offsets[d] to offsets[d + 1] - 1, [D + 1], from 0 to T. No token sees another document. */
  offsets: Int32Array
  /** labels[t] is the token at t if it is to be predicted from the tokens before it, else -100; unshifted, [T]. */
  labels?: Int32Array
  /** Weight of each label, [T]; 1 where absent. */
  weights?: Float32Array
}

/** float64 values; float32 ones are widened. */
export type Reals = Float64Array | Float32Array

/** Names of the losses of pairs of answers; their formulas stand in native/losses/preference.h. */
export type PairLossName =
  | 'sigmoid'
  | 'sigmoidNorm'
  | 'hinge'
  | 'ipo'
  | 'robust'
  | 'cdpo'
  | 'bco'
  | 'sppo'
  | 'nca'
  | 'apoZero'
  | 'apoDown'
  | 'exo'
  | 'discopop'
  | 'simpo'
  | 'orpo'

/**
 * One loss term of a backward. Vectors [T] have one value a token of the batch and are read where the token is a
 * label; `weights` of the batch multiply crossEntropy, ppoPolicy, ppoValue and kl. Terms over log-probabilities need
 * the head lm, ppoValue and pairwiseReward a scalar head. `coefficient` is 1 where it is absent.
 */
export type LossTerm =
  | { kind: 'crossEntropy'; coefficient?: number; ignoreIndex?: number }
  /** -sum of weights[t] * log p(label t), for a loss of one's own: its gradient by log p is -weights. */
  | { kind: 'weightedLogProb'; coefficient?: number; weights: Reals }
  | {
      kind: 'ppoPolicy'
      coefficient?: number
      oldLogProbs: Reals
      advantages: Reals
      /** Default 0.2: the ratio is clipped to [1 - clipLow, 1 + clipHigh]. */
      clipLow?: number
      clipHigh?: number
      dualClip?: number
      /** One ratio for each document. */
      sequence?: boolean
      /** Weight of each token for samples that another policy drew. */
      importance?: Reals
      entropyCoefficient?: number
    }
  /** clip null: the values are not clipped. */
  | {
      kind: 'ppoValue'
      coefficient?: number
      oldValues: Reals
      returns: Reals
      clip: number | null
    }
  /** With `oldLogProbs` each estimate is multiplied by exp(log p - old), which is differentiated too. */
  | {
      kind: 'kl'
      coefficient?: number
      estimator: 'k1' | 'k2' | 'k3'
      referenceLogProbs: Reals
      oldLogProbs?: Reals
    }
  /** Over the whole vocabulary: forward is KL(reference || model), the textbook's, reverse KL(model || reference). */
  | {
      kind: 'fullKl'
      coefficient?: number
      direction: 'forward' | 'reverse'
      reference: RoleHandle
    }
  /** `pairs` [2 P]: better and worse document; `referenceSums` [D]: reference log-probability of each answer. */
  | {
      kind: 'dpo'
      coefficient?: number
      loss: PairLossName
      beta: number
      labelSmoothing?: number
      gamma?: number
      pairs: Int32Array
      weights?: Reals
      referenceSums?: Reals
    }
  | {
      kind: 'kto'
      coefficient?: number
      beta: number
      desirableWeight?: number
      undesirableWeight?: number
      /** z: the mean log-ratio of mismatched answers, at least 0. */
      kl: number
      desirable: Uint8Array
      referenceSums: Reals
    }
  /** Read at the last token of each document; stands alone. */
  | {
      kind: 'pairwiseReward'
      coefficient?: number
      center?: number
      pairs: Int32Array
      margins?: Reals
      weights?: Reals
    }

/** Sums over what a term counts: tokens, sequences or pairs, by their weights; nothing is divided by anything. */
export interface TermResult {
  loss: number
  /** Sum of the weights: what a mean divides by. */
  count: number
  /**
   * Further sums. crossEntropy: correct, entropy, labels. ppoPolicy: clipped, approxKl, ratio, ratioSquared, entropy,
   * labels. ppoValue: clipped. dpo: correct, chosenReward, rejectedReward, chosenLogProb, rejectedLogProb. kto:
   * desirable, desirableReward, undesirableReward. pairwiseReward: correct, margin, rewards, documents, and the extremes
   * minReward and maxReward.
   */
  [sum: string]: number
}

export interface BackwardOptions {
  /** The loss is divided by this: the count of the whole optimizer step. */
  normalizer: number
  /** Keep only the input of each block and run it again in the backward. */
  checkpointing?: boolean
  /** Log-probabilities are those of logits / temperature; default 1. */
  temperature?: number
  /** Other than 0: LoRA dropout is on, drawn from it. */
  dropoutSeed?: number
}

export interface AdapterSpec {
  /** The modules that are adapted, by their names in the files, and where they live natively. */
  modules: {
    name: string
    layer: number
    linear: 'qkv' | 'out' | 'up' | 'down'
    rows?: [number, number]
  }[]
  rank: number
  /** What B A x is multiplied by. */
  scale: number
  dropout: number
  dora: boolean
  /** Of A; B starts as zero. */
  seed: number
}

export interface OptimizerOptions {
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  /** Which parameters decay. */
  decay: 'all' | 'matrices'
}

export interface StepResult {
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number
  /** False when the norm was not finite: nothing was changed. */
  applied: boolean
}

export interface SamplingOptions {
  maxNewTokens: number
  /** 0 takes the most probable token. */
  temperature: number
  /** 0 is off. */
  topK: number
  /** 1 is off. */
  topP: number
  /** 0 is off. */
  minP: number
  /** 1 is off. */
  repetitionPenalty: number
  seed: number
  stopIds: Int32Array
}

/** What the rows produced since the last call, in order of production. A row's stop token is included. */
export interface SessionAdvance {
  rows: Int32Array
  ids: Int32Array
  /** Log-probability of each produced id under softmax(logits / temperature) (temperature 0: of the raw logits). */
  logProbs: Float32Array
  /** Rows that came to an end in this call, and why. */
  finished: { row: number; reason: 'stop' | 'length' }[]
}

export interface CudaDevice {
  name: string
  totalBytes: number
  /** Of this process: tensors now alive; those and what is kept for reuse, which `dispose` gives back. */
  allocatedBytes: number
  reservedBytes: number
}

export interface EngineInfo {
  /** Such as 2.13.0. */
  libtorch: string
  threads: number
  cuda: { opened: boolean; devices: CudaDevice[] }
  /** Bytes of tensors now alive that this package allocated on the CPU. */
  allocatedBytes: number
  /** The most of them at once since the last resetPeak(). */
  peakAllocatedBytes: number
  liveHandles: number
}

export interface Core {
  // engine
  /** Once per process, before the first job; later calls with another value are errors. */
  configure(options: { threads?: number }): Promise<void>
  info(): Promise<EngineInfo>
  resetPeak(): Promise<void>
  createCancel(): CancelHandle
  /** Synchronous: only raises the flag. */
  cancel(cancel: CancelHandle): void
  /** Refuses new calls on the handle at once, cancels its jobs, resolves when it is released on the torch thread. */
  dispose(handle: BaseHandle | AdapterHandle | RoleHandle | OptimizerHandle | SessionHandle): Promise<void>
  /** Synchronous, for `process.on('exit')`: cancels all jobs, joins the torch thread for at most `timeoutMs`; false if a job still runs. */
  shutdown(timeoutMs: number): boolean
  /** Ends the process at once, without running destructors or exit handlers. */
  exitNow(code: number): never

  // models
  createBase(spec: DecoderSpec, options: { device: string; dtype: Dtype }): Promise<BaseHandle>
  /** The same weights a second time in memory, none of them frozen. */
  copyBase(base: BaseHandle): Promise<BaseHandle>
  /** Roles share their base. `score`: a scalar head of its own, drawn from the seed, or zero without one. */
  createRole(
    base: BaseHandle,
    options: { adapter?: AdapterHandle; score?: { seed?: number } },
  ): Promise<RoleHandle>
  /** Freezes the base. */
  createAdapter(base: BaseHandle, spec: AdapterSpec): Promise<AdapterHandle>
  /** Values of `from` into `to`; both have the same modules. */
  copyAdapter(from: AdapterHandle, to: AdapterHandle): Promise<void>
  /** Adds the updates to the weights of the base. */
  mergeAdapter(adapter: AdapterHandle): Promise<void>
  /** null: the base alone. */
  setAdapter(role: RoleHandle, adapter: AdapterHandle | null): Promise<void>
  /** Normal(0, std) for matrices (times `residualScale` for out and down), zero biases, unit norms; counter-based, so the seed decides all. */
  initialise(base: BaseHandle, options: { seed: number; std: number; residualScale: number }): Promise<void>
  /** Header of a safetensors file, validated. */
  readHeader(path: string): Promise<{ tensors: TensorInfo[]; metadata: Record<string, string> }>
  /** Every entry is read from the file into its parameter, with the shape checked. */
  loadTensors(
    role: RoleHandle,
    files: { path: string; entries: WeightMapEntry[] }[],
    cancel?: CancelHandle,
  ): Promise<void>
  /** Writes and syncs one safetensors file; the caller renames it. */
  saveTensors(
    role: RoleHandle,
    path: string,
    entries: WeightMapEntry[],
    options: { dtype: Dtype; metadata: Record<string, string> },
    cancel?: CancelHandle,
  ): Promise<void>
  /** Native parameters in order: of the base, the adapter, the scalar head. */
  parameters(
    role: RoleHandle,
  ): Promise<{ parameter: string; shape: number[]; dtype: Dtype; trainable: boolean }[]>
  /** A copy, as float32, in the layout of the file. */
  getTensor(
    role: RoleHandle,
    entry: WeightMapEntry,
    which: 'value' | 'gradient',
  ): Promise<{ shape: number[]; values: Float32Array }>
  setTensor(role: RoleHandle, entry: WeightMapEntry, values: Float32Array): Promise<void>

  // training
  backward(
    role: RoleHandle,
    batch: PackedBatch,
    terms: LossTerm[],
    options: BackwardOptions,
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** The same numbers without a gradient. */
  evaluate(
    role: RoleHandle,
    batch: PackedBatch,
    terms: LossTerm[],
    options: { temperature?: number },
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** [T, V], row t predicts token t + 1. */
  logits(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float32Array>
  /** [T]: log p(labels[t]) given the tokens before t, and the entropy of that prediction; 0 where there is no label. */
  logProbs(
    role: RoleHandle,
    batch: PackedBatch,
    options: { temperature?: number },
    cancel?: CancelHandle,
  ): Promise<{ logProbs: Float64Array; entropy: Float64Array }>
  /** [T]: the scalar head where each label is predicted; 0 where there is no label. */
  values(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float64Array>
  /** [D]: the scalar head at the last token of each document. */
  scores(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float64Array>
  zeroGrad(role: RoleHandle): Promise<void>
  createOptimizer(role: RoleHandle, options: OptimizerOptions): Promise<OptimizerHandle>
  /** Clips by global norm (0: off), then AdamW. Throws while the gradients are dirty from a failed backward. */
  optimizerStep(
    optimizer: OptimizerHandle,
    options: { learningRate: number; maxGradNorm: number },
  ): Promise<StepResult>
  /** Moments and step count as one safetensors file, written and synced; the caller renames it. */
  saveOptimizer(optimizer: OptimizerHandle, path: string, cancel?: CancelHandle): Promise<void>
  loadOptimizer(optimizer: OptimizerHandle, path: string, cancel?: CancelHandle): Promise<void>

  // generation
  createSession(
    role: RoleHandle,
    prompts: Int32Array[],
    options: SamplingOptions,
    cancel?: CancelHandle,
  ): Promise<SessionHandle>
  /** Prefills at the first call, then takes up to `tokens` decoding steps. */
  advance(session: SessionHandle, tokens: number, cancel?: CancelHandle): Promise<SessionAdvance>
  /** Ends rows early (a stop string was seen). */
  finish(session: SessionHandle, rows: Int32Array): Promise<void>

  // losses over plain arrays; `logits` may be Float64Array, then all is computed in float64
  crossEntropy(
    logits: Float32Array | Float64Array,
    labels: Int32Array,
    options: { rows: number; columns: number; ignoreIndex: number; gradient: boolean },
  ): Promise<{ loss: number; count: number; gradient?: Float32Array | Float64Array }>
  /** Means by `normalizer` (the count, where it is absent) of the sums of a ppoPolicy term, and its gradient. */
  policyLoss(options: {
    logProbs: Reals
    oldLogProbs: Reals
    advantages: Reals
    mask?: Uint8Array
    weights?: Reals
    normalizer?: number
    clipLow: number
    clipHigh: number
    dualClip?: number
    gradient: boolean
  }): Promise<{ loss: number; clipped: number; approxKl: number; gradient?: Float64Array }>
  valueLoss(options: {
    values: Reals
    oldValues: Reals
    returns: Reals
    mask?: Uint8Array
    clip: number | null
    gradient: boolean
  }): Promise<{ loss: number; clipped: number; gradient?: Float64Array }>
  klPenalty(options: {
    logProbs: Reals
    referenceLogProbs: Reals
    oldLogProbs?: Reals
    mask?: Uint8Array
    weights?: Reals
    normalizer?: number
    estimator: 'k1' | 'k2' | 'k3' | 'full'
    columns?: number
    direction?: 'forward' | 'reverse'
    coefficient: number
    gradient: boolean
  }): Promise<{ loss: number; gradient?: Float64Array }>
  /** Each pair's loss and its derivatives, none divided by the number of pairs; the same for the two below. */
  dpoLosses(options: {
    chosenLogProbs: Reals
    rejectedLogProbs: Reals
    chosenReferenceLogProbs?: Reals
    rejectedReferenceLogProbs?: Reals
    chosenLengths?: Reals
    rejectedLengths?: Reals
    loss: PairLossName
    beta: number
    labelSmoothing: number
    gamma: number
  }): Promise<PairLosses>
  pairwiseLosses(options: {
    chosen: Reals
    rejected: Reals
    margins: Reals
    center: number
  }): Promise<PairLosses>
  /** `chosen` holds the derivative by each log-probability. */
  ktoLosses(options: {
    logProbs: Reals
    referenceLogProbs: Reals
    desirable: Uint8Array
    beta: number
    desirableWeight: number
    undesirableWeight: number
    kl: number
  }): Promise<PairLosses>

  // rollout: `offsets` [B + 1] cuts the N actions of B responses
  gae(options: {
    rewards: Reals
    values: Reals
    offsets: Int32Array
    gamma: number
    lambda: number
  }): Promise<{ advantages: Float64Array; returns: Float64Array }>
  whiten(values: Reals, options: { mask?: Uint8Array; shiftMean: boolean }): Promise<Float64Array>
  /** -coefficient * KL estimate of each token, plus the score at the last token of each response. */
  tokenRewards(options: {
    logProbs: Reals
    referenceLogProbs: Reals
    scores: Reals
    offsets: Int32Array
    estimator: 'k1' | 'k2' | 'k3'
    coefficient: number
  }): Promise<Float64Array>
  groupAdvantages(options: {
    rewards: Reals
    groupSize: number
    method: 'grpo' | 'rloo'
    scaleRewards?: 'group' | 'batch' | 'none'
  }): Promise<{ advantages: Float64Array; withoutSpread: number }>
}

export interface PairLosses {
  losses: Float64Array
  chosen: Float64Array
  rejected: Float64Array
}
