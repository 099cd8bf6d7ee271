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
  /** Components of a head that turn, the first ones; all where absent. */
  rotaryDim?: number
  /** Component 2i turns with 2i + 1 (GPT-J, GLM-4), not i with i + half. */
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
  /** Norms of what attention and the MLP read; default true. */
  preNorm?: boolean
  /** Norms of what attention and the MLP give, before it is added to the residual stream; default false. */
  postNorm?: boolean
  /** A token sees itself and the `window - 1` tokens before it; null sees all. */
  window: number | null
  /** null: no rotary embedding. */
  rope: RopeSpec | null
  /** Factor on the attention scores; 1 / sqrt(headDim) where absent. */
  attentionScale?: number
  /** cap * tanh(score / cap) of the attention scores (gemma2): refused, since no kernel here has it. */
  attentionSoftCap?: number
  /** Factor on what attention and the MLP add to the residual stream (granite). */
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
   * As an input this token gets no gradient (its row of a tied embedding still gets the head's); absent: none such.
   * Transformers makes its embeddings so wherever the config names a pad token.
   */
  paddingId?: number
  /** Factor on the token embeddings as an input, rounded to the dtype of the model (gemma: sqrt(hiddenSize)). */
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
