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

/** One loss term of a backward; further kinds come with the alignment work. */
export type LossTerm = { kind: 'crossEntropy'; coefficient?: number; ignoreIndex?: number }

export interface TermResult {
  /** Sum over labels of weight * -log p(label), in nats; not divided by anything. */
  loss: number
  /** Sum of the weights of the labels: what a mean divides by. */
  count: number
  /** Labels that were the most probable token. */
  correct: number
  /** Sum over labels of the entropy of the prediction, in nats. */
  entropy: number
  /** Labels, whatever their weight. */
  labels: number
}

export interface BackwardOptions {
  /** The loss is divided by this: the count of the whole optimizer step. */
  normalizer: number
  /** Keep only the input of each block and run it again in the backward. */
  checkpointing?: boolean
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

export interface EngineInfo {
  /** Such as 2.13.0. */
  libtorch: string
  threads: number
  cuda: { opened: boolean; devices: { name: string; totalBytes: number }[] }
  /** Bytes of tensors now alive that this package allocated on the CPU. */
  allocatedBytes: number
  liveHandles: number
}

export interface Core {
  // engine
  /** Once per process, before the first job; later calls with another value are errors. */
  configure(options: { threads?: number }): Promise<void>
  info(): Promise<EngineInfo>
  createCancel(): CancelHandle
  /** Synchronous: only raises the flag. */
  cancel(cancel: CancelHandle): void
  /** Refuses new calls on the handle at once, cancels its jobs, resolves when it is released on the torch thread. */
  dispose(handle: BaseHandle | RoleHandle | OptimizerHandle | SessionHandle): Promise<void>
  /** Synchronous, for `process.on('exit')`: cancels all jobs, joins the torch thread for at most `timeoutMs`; false if a job still runs. */
  shutdown(timeoutMs: number): boolean
  /** Ends the process at once, without running destructors or exit handlers. */
  exitNow(code: number): never

  // models
  createBase(spec: DecoderSpec, options: { device: string; dtype: Dtype }): Promise<BaseHandle>
  createRole(
    base: BaseHandle,
    options: { adapter: string | null; head: 'lm' | 'scalar' | 'both' },
  ): Promise<RoleHandle>
  /** Normal(0, std) for matrices (times `residualScale` for out and down), zero biases, unit norms; counter-based, so the seed decides all. */
  initialise(base: BaseHandle, options: { seed: number; std: number; residualScale: number }): Promise<void>
  /** Header of a safetensors file, validated. */
  readHeader(path: string): Promise<{ tensors: TensorInfo[]; metadata: Record<string, string> }>
  /** Every entry is read from the file into its parameter, with the shape checked. */
  loadTensors(
    base: BaseHandle,
    files: { path: string; entries: WeightMapEntry[] }[],
    cancel?: CancelHandle,
  ): Promise<void>
  /** Writes and syncs one safetensors file; the caller renames it. */
  saveTensors(
    base: BaseHandle,
    path: string,
    entries: WeightMapEntry[],
    options: { dtype: Dtype; metadata: Record<string, string> },
    cancel?: CancelHandle,
  ): Promise<void>
  /** Native parameters in order. */
  parameters(
    base: BaseHandle,
  ): Promise<{ parameter: string; shape: number[]; dtype: Dtype; trainable: boolean }[]>
  /** A copy, as float32, in the layout of the file. */
  getTensor(
    base: BaseHandle,
    entry: WeightMapEntry,
    which: 'value' | 'gradient',
  ): Promise<{ shape: number[]; values: Float32Array }>
  setTensor(base: BaseHandle, entry: WeightMapEntry, values: Float32Array): Promise<void>

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
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** [T, V], row t predicts token t + 1. */
  logits(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float32Array>
  /** [T]: log p(labels[t]) given the tokens before t; 0 where there is no label. */
  logProbs(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float32Array>
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
}
