import type { AdapterHandle, BaseHandle, CancelHandle, Dtype, RoleHandle } from './handles.js'
import type { DecoderSpec } from './spec.js'

/**
 * One tensor of a Hugging Face file and where it lives natively. Read forward it loads, read backward it saves.
 *
 * Native parameters (matrices are [out, in]):
 *   embed.weight [V, hidden]   positions.weight [P, hidden]   norm.weight  norm.bias   head.weight [V, hidden] (untied only)
 *   layers.<i>.attentionNorm.weight / .bias    layers.<i>.mlpNorm.weight / .bias: where the layer has norms of inputs
 *   layers.<i>.attentionPostNorm.weight / .bias    layers.<i>.mlpPostNorm.weight / .bias: where it has norms of outputs
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

/** Bases, adapters and roles: making them, their files and their parameters. */
export interface ModelCalls {
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
  /** Normal(0, std) for matrices (times `residualScale` for out and down), zero biases, norms that multiply by 1; counter-based, so the seed decides all. */
  initialize(base: BaseHandle, options: { seed: number; std: number; residualScale: number }): Promise<void>
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
}
