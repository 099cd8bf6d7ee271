import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import type { Core } from '../../lib/addon/addon.js'
import { PosttrainError } from '../../lib/errors.js'

/** What is done in the place of one file operation, or of the process before or behind it. */
export type Fault = 'ENOSPC' | 'EIO' | 'kill before' | 'kill behind'

const CALLS = [
  'mkdir',
  'open',
  'readdir',
  'readFile',
  'realpath',
  'rename',
  'rm',
  'stat',
  'lstat',
  'link',
  'writeFile',
]
const ON_HANDLES = ['write', 'writeFile', 'sync', 'stat', 'close']
const NATIVE = ['saveTensors', 'saveOptimizer', 'exchangePaths'] as const

type Calls = Record<string, (...given: unknown[]) => Promise<unknown>>

/** Counts the file operations under a folder, and harms one of them. */
export class FileFaults {
  folder = '\0'
  /** Number of the operation to harm, from 1; 0 for none. */
  at = 0
  fault: Fault = 'EIO'
  count = 0
  /** The harmed operation. */
  harmed = ''

  /** Begins to count anew. */
  arm(folder: string, at: number, fault: Fault = 'EIO'): void {
    Object.assign(this, { folder, at, fault, count: 0, harmed: '' })
  }

  /** Puts itself before the file operations of this process and the writing ones of the core. */
  install(core: Core): void {
    const calls = fs as unknown as Calls
    for (const name of CALLS) {
      const real = calls[name]!
      calls[name] = async (...given) => {
        if (!given.some((value) => this.#isMine(value))) return await real(...given)
        const result = await this.#operation(name, String(given[0]), () => real(...given))
        if (name === 'open') this.#watchHandle(result as Calls, String(given[0]))
        return result
      }
    }
    syncBuiltinESMExports()
    const native = core as unknown as Calls
    for (const name of NATIVE) {
      const real = native[name]!
      native[name] = async (...given) => {
        const path = given.find((value) => this.#isMine(value))
        if (path === undefined) return await real.apply(native, given)
        const typed = (message: string) => new PosttrainError('ERR_IO', `writing ${path} failed: ${message}`)
        return await this.#operation(name, String(path), () => real.apply(native, given), typed)
      }
    }
  }

  #isMine(value: unknown): boolean {
    return typeof value === 'string' && value.startsWith(this.folder)
  }

  #watchHandle(handle: Calls, path: string): void {
    for (const name of ON_HANDLES) {
      const real = handle[name]!.bind(handle)
      handle[name] = async (...given) => {
        if (name !== 'close') return await this.#operation(`${name} of`, path, () => real(...given))
        // A close that fails has closed.
        const result = await real(...given)
        return await this.#operation(`${name} of`, path, async () => result)
      }
    }
  }

  /** Counts an operation and runs it, or harms it; `typed` makes the error of a simulated failure. */
  async #operation(
    name: string,
    path: string,
    run: () => Promise<unknown>,
    typed?: (message: string) => Error,
  ): Promise<unknown> {
    if (++this.count !== this.at) return await run()
    this.harmed = `${name} ${path}`
    if (this.fault === 'kill before') process.kill(process.pid, 'SIGKILL')
    if (this.fault === 'kill behind') await run().finally(() => process.kill(process.pid, 'SIGKILL'))
    const message = `${this.fault}: simulated, ${this.harmed}`
    throw typed?.(message) ?? Object.assign(new Error(message), { code: this.fault, syscall: name, path })
  }
}
