import type { CancelHandle, Core, Dtype } from '../../lib/addon/addon.js'
import { loadCore } from '../../lib/addon/load.js'

declare const brand: unique symbol
export interface TestHandle {
  readonly [brand]: 'base'
}

/** What the library of the test hooks adds to the core (native/test_hooks). */
export interface Hooks {
  /** Looks at its flag every millisecond. */
  sleepJob(ms: number, cancel?: CancelHandle): Promise<void>
  /** Inside torch's operators all the time. */
  busyJob(ms: number, cancel?: CancelHandle): Promise<void>
  /** Inside torch's operators, never looks at its flag. */
  stuckJob(ms: number): Promise<void>
  createObject(bytes: number): Promise<TestHandle>
  useObject(object: TestHandle, ms: number, cancel?: CancelHandle): Promise<void>
  objects(): Promise<{ live: number; freedElsewhere: number; keptBytes: number }>
  throwing(where: 'call' | 'job' | 'reply', kind: string): Promise<never>
  throwingSynchronously(kind: string): never
  failAllocation(after: number): void
  /** New blocks of memory hold NaN. */
  poison(on: boolean): void
  allocate(bytes: number, times: number): Promise<void>
  philox(counter: Uint32Array, key: Uint32Array): Uint32Array
  /** The mask of that many values as some kernels draw it. */
  dropout(kernels: 'reference' | 'cuda', count: number, p: number, seed: number, stream: number): Float32Array
  normals(count: number, seed: number, index: number): Float32Array
  defaultThreads(): number
  /** x w^T by one of the ways that this processor has, the chosen one first; null: it has fewer. */
  multiplyFew(way: number, w: Float32Array, x: Float32Array, columns: number): Float32Array | null
  /** Steps of AdamW with moments in 8 bits from zero ones: what each leaves. */
  adamwBlockwise(
    values: Float32Array,
    grads: readonly Float32Array[],
    options: BlockwiseOptions,
  ): BlockwiseState[]
  /** The same with moments in bfloat16. */
  adamwHalfMoments(
    values: Float32Array,
    grads: readonly Float32Array[],
    options: BlockwiseOptions,
  ): Record<'value' | 'first' | 'second', Float32Array>[]
  dynamicCode(isSigned: boolean): Float32Array
  /** Begins to count. */
  countLaunches(): void
  /** Launches by operation since then, and how often the host waited for the device. */
  launches(): { operations: Record<string, number>; waits: number }
  /** One of our kernels of CUDA and the reference on the random numbers of a seed. */
  kernelCase(kernel: string, device: string, dtype: Dtype, seed: number): Promise<KernelCase>
  /** fatbin, nvrtc, or why there are no kernels. */
  kernelSource(): string
  /** What the driver in the place of CUDA's answers from now on; 0: nothing fails. Kernels are loaded again. */
  driverFaults(faults: { launch: number; fatbin: number; noCompiler: boolean }): void
}

export interface KernelCase {
  outputs: { name: string; actual: Float32Array; expected: Float32Array }[]
  /** Kernels that were launched. */
  launches: number
  /** Nothing was written beside a tensor. */
  guarded: boolean
}

export type BlockwiseState = Record<
  'value' | 'first.codes' | 'first.scales' | 'second.codes' | 'second.scales',
  Float32Array
>

export interface BlockwiseOptions {
  learningRate: number
  weightDecay: number
  beta1: number
  beta2: number
  eps: number
  gradScale: number
  /** By torch's operations instead of our loop. */
  byOperations: boolean
}

export async function loadHooks(): Promise<{ core: Core; hooks: Hooks }> {
  process.env.POSTTRAIN_TEST_HOOKS = '1'
  const core = (await loadCore()) as Core & { testHooks: Hooks }
  return { core, hooks: core.testHooks }
}

export const wait = (ms: number) => new Promise((done) => setTimeout(done, ms))
