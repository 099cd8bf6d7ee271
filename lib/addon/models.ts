import type { AdapterHandle, BaseHandle, CancelHandle, Dtype, RoleHandle } from './handles.js'
import type { DecoderSpec } from './spec.js'

/**
 * One tensor of a Hugging Face file and its native parameter, for loading and saving alike.
 *
 * Native parameters (matrices are [out, in]):
 *   embed.weight [V, hidden]   positions.weight [P, hidden]   norm.weight  norm.bias   head.weight [V, hidden] (untied only)
 *   layers.<i>.attentionNorm.weight / .bias    layers.<i>.mlpNorm.weight / .bias: if the layer has input norms
 *   layers.<i>.attentionPostNorm.weight / .bias    layers.<i>.mlpPostNorm.weight / .bias: if it has output norms
 *   layers.<i>.qkv.weight [(heads + 2 kvHeads) headDim, hidden] / .bias: q rows, then k, then v
 *   layers.<i>.qNorm.weight  layers.<i>.kNorm.weight [headDim]
 *   layers.<i>.out.weight [hidden, heads * headDim] / .bias
 *   layers.<i>.up.weight [intermediate, hidden] / .bias; gated: [2 intermediate, hidden], gate rows then up rows
 *   layers.<i>.down.weight [hidden, intermediate] / .bias
 *   of an adapter: <module>.lora_A [rank, in]   <module>.lora_B [out, rank]   <module>.lora_magnitude_vector [out]
 *     of an embedding [V, hidden]: lora_A [rank, hidden]   lora_B [V, rank]   lora_magnitude_vector [hidden]
 *     and its copies of parameters, by their keys in the adapter's file
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
  /**
   * How a file has a weight that is in 4 bits in memory: true, in 4 bits with its companions beside it; false, in a dtype
   * of its own, which it keeps. Absent: it is coded when it is read.
   */
  nf4?: boolean
  /** Other files that have companions of a weight in 4 bits. */
  companions?: string[]
}

export interface NativeParameter {
  parameter: string
  shape: number[]
  /** `'nf4'`: in 4 bits, but for the parts that begin at `plainRows`. */
  dtype: Dtype | 'nf4'
  plainRows: number[]
  trainable: boolean
}

export interface TensorInfo {
  name: string
  /** safetensors' own names: F32, BF16, F16, F64, I64, ... */
  dtype: string
  shape: number[]
}

export interface AdapterSpec {
  /** Modules with a low-rank update: name in the files, and the place in the decoder (`layer` 0 outside the blocks). */
  modules: {
    name: string
    layer: number
    linear: 'qkv' | 'out' | 'up' | 'down' | 'embed' | 'positions' | 'head'
    rows?: [number, number]
    rank: number
    /** Factor on B A x. */
    scale: number
    /** Name of the module whose A and B it uses: a head tied to an embedding. */
    sharedWith?: string
    /** The part of the weight that the initialization took out of the base, and that this adapter holds instead. */
    takenOut?: 'pissa' | 'olora'
  }[]
  /** Parameters with a full copy of their own: one, or embed.weight and head.weight for both. */
  copies: { name: string; parameters: string[]; rows?: [number, number]; trainable: boolean }[]
  dropout: number
  dora: boolean
  /** Random seed of A; B starts as zero. */
  seed: number
}

/** Bases, adapters and roles: creation, files and parameters. */
export interface ModelCalls {
  /** `nf4`: the linear layers of the blocks are kept in 4 bits, and all parameters are frozen. */
  createBase(spec: DecoderSpec, options: { device: string; dtype: Dtype; nf4?: boolean }): Promise<BaseHandle>
  /** A copy of the weights, none of them frozen by an adapter. */
  copyBase(base: BaseHandle): Promise<BaseHandle>
  /** Roles share their base. `score`: with its own scalar head, drawn from the seed, or zero without a seed. */
  createRole(
    base: BaseHandle,
    options: { adapter?: AdapterHandle; score?: { seed?: number } },
  ): Promise<RoleHandle>
  /** Freezes the base. */
  createAdapter(base: BaseHandle, spec: AdapterSpec): Promise<AdapterHandle>
  /** Copies the values of `from` to `to`, which has the same modules. */
  copyAdapter(from: AdapterHandle, to: AdapterHandle): Promise<void>
  /**
   * Adds the adapter's updates to the weights of the base and puts its copies in their place. A tied head becomes a
   * parameter of its own where the adapter gives it another weight than the embedding and something `readsHead`;
   * `tied`: it is the embedding as before.
   */
  mergeAdapter(adapter: AdapterHandle, options: { readsHead: boolean }): Promise<{ tied: boolean }>
  /** null: the base alone. */
  setAdapter(role: RoleHandle, adapter: AdapterHandle | null): Promise<void>
  /** Normal(0, std) for matrices (times `residualScale` for out and down), zero biases, norms that multiply by 1. Counter-based random numbers: the result depends on the seed only. */
  initialize(base: BaseHandle, options: { seed: number; std: number; residualScale: number }): Promise<void>
  /** Reads and validates the header of a safetensors file. */
  readHeader(path: string): Promise<{ tensors: TensorInfo[]; metadata: Record<string, string> }>
  /** Reads every entry into its parameter and checks its shape. */
  loadTensors(
    role: RoleHandle,
    files: { path: string; entries: WeightMapEntry[] }[],
    cancel?: CancelHandle,
  ): Promise<void>
  /** Whether each tensor of a file has the values of the base, once read in the dtype of the base. */
  sameTensors(
    base: BaseHandle,
    path: string,
    entries: WeightMapEntry[],
    cancel?: CancelHandle,
  ): Promise<boolean[]>
  /** Writes and syncs one safetensors file; the caller renames it. */
  saveTensors(
    role: RoleHandle,
    path: string,
    entries: WeightMapEntry[],
    options: { dtype: Dtype; metadata: Record<string, string> },
    cancel?: CancelHandle,
  ): Promise<void>
  /** Native parameters in order: base, adapter, scalar head. */
  parameters(role: RoleHandle): Promise<NativeParameter[]>
  /** A copy as float32, in the layout of the file. */
  getTensor(
    role: RoleHandle,
    entry: WeightMapEntry,
    which: 'value' | 'gradient',
  ): Promise<{ shape: number[]; values: Float32Array }>
  setTensor(role: RoleHandle, entry: WeightMapEntry, values: Float32Array): Promise<void>
}
