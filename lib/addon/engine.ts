import type {
  AdapterHandle,
  BaseHandle,
  CancelHandle,
  OptimizerHandle,
  RoleHandle,
  SessionHandle,
} from './handles.js'

export interface CudaDevice {
  name: string
  totalBytes: number
  /** Compute capability, such as 9.0. */
  capability: string
  /** Live tensors of this process. Reserved: these and the memory cached for reuse, which `dispose` releases. */
  allocatedBytes: number
  reservedBytes: number
  /** Peak of allocatedBytes since the last resetPeak(). */
  peakAllocatedBytes: number
  /**
   * Where this package's own kernels come from: its binary, or NVRTC, which compiled them on this machine. Null before a
   * model is on the device, and where kernelsProblem says why there are none: torch's operations serve then.
   */
  kernels: 'fatbin' | 'nvrtc' | null
  kernelsProblem: string | null
}

export interface EngineInfo {
  /** Such as 2.13.0. */
  libtorch: string
  threads: number
  /** Whether CUDA adds up every sum in one order. */
  deterministic: boolean
  /** Architectures: those of this package's own kernels in its binary, such as 7.5 8.0 9.0; empty where there are none. */
  cuda: { opened: boolean; devices: CudaDevice[]; architectures: string }
  /** Bytes of live tensors that this package allocated on the CPU. */
  allocatedBytes: number
  /** Peak of allocatedBytes since the last resetPeak(). */
  peakAllocatedBytes: number
  liveHandles: number
}

/** The torch thread, memory and lifetimes of handles. */
export interface EngineCalls {
  /**
   * Sets the threads once per process, before the first job; a later call with another value is an error. `deterministic`
   * holds for the process from then on.
   */
  configure(options: { threads?: number; deterministic?: boolean }): Promise<void>
  info(): Promise<EngineInfo>
  resetPeak(): Promise<void>
  createCancel(): CancelHandle
  /** Synchronous: only raises the flag. */
  cancel(cancel: CancelHandle): void
  /** Refuses new calls on the handle, cancels its jobs, and resolves when it is released on the torch thread. */
  dispose(handle: BaseHandle | AdapterHandle | RoleHandle | OptimizerHandle | SessionHandle): Promise<void>
  /** Synchronous, for `process.on('exit')`: cancels all jobs, joins the torch thread for at most `timeoutMs`; false if a job still runs. */
  shutdown(timeoutMs: number): boolean
  /** Ends the process at once, without running destructors or exit handlers. */
  exitNow(code: number): never
}
