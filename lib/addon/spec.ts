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
