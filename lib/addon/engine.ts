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

/** The torch thread, memory and the lives of handles. */
export interface EngineCalls {
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
}
