import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import type { Core } from '../../lib/addon/addon.js'
import { PosttrainError } from '../../lib/errors.js'

/** What is done in the place of one file operation. */
export type Fault = 'ENOSPC' | 'EIO' | 'kill'

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
        const mine = given.some((value) => this.#isMine(value))
        if (mine) this.#operation(name, String(given[0]))
        const result = await real(...given)
        if (mine && name === 'open') this.#watchHandle(result as Calls, String(given[0]))
        return result
      }
    }
    syncBuiltinESMExports()
    const native = core as unknown as Calls
    for (const name of NATIVE) {
      const real = native[name]!
      native[name] = async (...given) => {
        const path = given.find((value) => this.#isMine(value))
        try {
          if (path !== undefined) this.#operation(name, String(path))
        } catch (error) {
          throw new PosttrainError('ERR_IO', `writing ${path} failed: ${(error as Error).message}`)
        }
        return await real.apply(native, given)
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
        // A close that fails has closed.
        const result = name === 'close' ? await real(...given) : undefined
        this.#operation(`${name} of`, path)
        return name === 'close' ? result : await real(...given)
      }
    }
  }

  #operation(name: string, path: string): void {
    if (++this.count !== this.at) return
    this.harmed = `${name} ${path}`
    if (this.fault === 'kill') process.kill(process.pid, 'SIGKILL')
    throw Object.assign(new Error(`${this.fault}: simulated, ${this.harmed}`), {
      code: this.fault,
      syscall: name,
      path,
    })
  }
}
