declare const brand: unique symbol
interface Handle<Kind extends string> {
  readonly [brand]: Kind
}
/** Weights in memory. */
export type BaseHandle = Handle<'base'>
/** Low-rank updates of the linear layers of one base. */
export type AdapterHandle = Handle<'adapter'>
/** A base, an optional adapter and a head, to train, evaluate and sample from. */
export type RoleHandle = Handle<'role'>
export type OptimizerHandle = Handle<'optimizer'>
/** A running generation: prompts, KV cache and sampler. */
export type SessionHandle = Handle<'session'>
/** A flag that a running job checks between layers, micro-batches and tokens. */
export type CancelHandle = Handle<'cancel'>

/** Data type of a tensor. */
export type Dtype = 'float32' | 'bfloat16' | 'float16' | 'float64'
