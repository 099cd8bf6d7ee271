export interface NormSpec {
  kind: 'rms' | 'layer'
  eps: number
  /** Multiplies by 1 + weight, which starts at 0 (gemma); kind rms only. */
  offset?: boolean
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
  /** The first components of a head are rotated, this many; default: all. */
  rotaryDim?: number
  /** Rotates component 2i with 2i + 1 (GPT-J, GLM-4) instead of i with i + half. */
  interleaved?: boolean
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
  /** Norms of the inputs of attention and the MLP; default true. */
  preNorm?: boolean
  /** Norms of the outputs of attention and the MLP, before the residual addition; default false. */
  postNorm?: boolean
  /** Sliding window: a token attends to itself and the `window - 1` tokens before it; null: full attention. */
  window: number | null
  /** null: no rotary embedding. */
  rope: RopeSpec | null
  /** Factor on the attention scores; default: 1 / sqrt(headDim). */
  attentionScale?: number
  /** cap * tanh(score / cap) of the attention scores (gemma2): refused, since no kernel here supports it. */
  attentionSoftCap?: number
  /** Factor on the outputs of attention and the MLP at the residual addition (granite). */
  residualMultiplier?: number
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
   * This token's embedding gets no gradient as an input (with a tied embedding it still gets that of the head).
   * Transformers does this wherever the config names a pad token.
   */
  paddingId?: number
  /** Factor on the input embeddings, rounded to the dtype of the model (gemma: sqrt(hiddenSize)). */
  embeddingMultiplier?: number
  norm: NormSpec
  /** The output projection is the token embedding. */
  tied: boolean
  /** Factor on the logits (granite: 1 / logits_scaling). */
  logitMultiplier?: number
  /** cap * tanh(logit / cap), after the multiplier (gemma2: 30). */
  logitSoftCap?: number
  layers: LayerSpec[]
}
