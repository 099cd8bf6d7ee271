import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PosttrainError } from '../../errors.js'
import { remedy } from './check.js'
import { cacheFolder, type Libtorch, libraryNames } from './libtorch.js'
import { driverProblem, driverVersion, systemProblem } from './system.js'

export type CudaMode = 'auto' | 'off' | 'on'

/** Result of opening a libtorch in a child process. */
export interface Verdict {
  /** Such as 2.13.0. */
  version: string
  /** The CUDA libraries were opened. */
  cuda: boolean
  /** Why they were not, where they should have been; empty otherwise. */
  cudaError: string
  /** How to open the libraries: `off` if opening the CUDA libraries kills the process. */
  mode: CudaMode
}

const timeoutMs = 120_000

interface Outcome {
  verdict?: Verdict
  failure?: { code: string; message: string }
  /** The library that was being opened when the child died. */
  opening?: string
  signal?: string
}

/** Opens the libraries in a child, because a truncated one kills the process that opens it. */
function probe(stub: string, libtorch: Libtorch, mode: CudaMode): Promise<Outcome> {
  const program = fileURLToPath(new URL('./probe.js', import.meta.url))
  const env = { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' }
  return new Promise((settle) => {
    const child = spawn(process.execPath, [program, stub, libtorch.libraries, mode], {
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    child.on('error', (error) => settle({ failure: { code: 'ERR_LIBTORCH_LOAD', message: error.message } }))
    child.on('close', (code, signal) => {
      const line = /^posttrain-probe result (.*)$/m.exec(text)?.[1]
      if (line !== undefined) {
        const result = JSON.parse(line)
        return settle(result.code ? { failure: result } : { verdict: { ...result, mode } })
      }
      const opening = [...text.matchAll(/^posttrain-probe opening (.*)$/gm)].at(-1)?.[1]
      settle({ signal: signal ?? `exit code ${code}`, ...(opening === undefined ? {} : { opening }) })
    })
  })
}

function keyOf(stub: string, libtorch: Libtorch, mode: CudaMode, driver: string | null): string {
  const hash = createHash('sha256')
  const names = libraryNames()
  const paths = [stub, ...[names.c10, names.cpu, names.cuda].map((name) => join(libtorch.libraries, name))]
  for (const path of paths) {
    const status = statSync(path, { throwIfNoEntry: false })
    hash.update(`${path}\0${status?.size}\0${status?.mtimeMs}\0`)
  }
  // A driver that was installed since changes what `auto` opens.
  return hash
    .update(`${mode}\0${existsSync('/dev/nvidiactl')}\0${driver}`)
    .digest('hex')
    .slice(0, 32)
}

/** Only a file of this user that nobody else can write is believed. */
function remembered(path: string): Verdict | null {
  try {
    const { uid, mode } = statSync(path)
    const own = process.getuid?.()
    if (own !== undefined && (uid !== own || (mode & 0o022) !== 0)) return null
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return null
  }
}

function remember(folder: string, path: string, verdict: Verdict): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const partial = `${path}.${process.pid}.tmp`
    writeFileSync(partial, JSON.stringify(verdict), { mode: 0o600 })
    renameSync(partial, path)
  } catch {
    // Without a cache the next process asks again.
  }
}

/** Why CUDA libraries that are there are not to be opened with this driver; null where they may be, or are asked for. */
export function driverTooOld(libtorch: Libtorch, cuda: CudaMode, driver = driverVersion()): string | null {
  const hasCuda = existsSync(join(libtorch.libraries, libraryNames().cuda))
  return cuda === 'auto' && hasCuda ? driverProblem(driver) : null
}

/**
 * Checks that this libtorch can be opened in this process: tried in a child process once, then remembered by path, size
 * and time of the libraries. Broken CUDA libraries are not an error: the verdict says so and the CPU goes on.
 *
 * @throws PosttrainError ERR_LIBTORCH_LOAD or ERR_LIBTORCH_VERSION.
 */
export async function verifyLibtorch(
  stub: string,
  libtorch: Libtorch,
  cuda: CudaMode,
  driver = driverVersion(),
): Promise<Verdict> {
  const folder = join(cacheFolder(), 'verdicts')
  const path = join(folder, `${keyOf(stub, libtorch, cuda, driver)}.json`)
  const known = remembered(path)
  if (known) return known
  const tooOld = driverTooOld(libtorch, cuda, driver)
  let outcome = await probe(stub, libtorch, tooOld === null ? cuda : 'off')
  if (tooOld !== null && outcome.verdict) outcome.verdict.cudaError = tooOld
  const { c10, cpu } = libraryNames()
  const died = outcome.opening
  if (died !== undefined && !died.endsWith(c10) && !died.endsWith(cpu) && cuda !== 'off') {
    const withoutCuda = await probe(stub, libtorch, 'off')
    if (withoutCuda.verdict) {
      const cudaError = `opening ${died} ends the process (${outcome.signal}): the file is damaged`
      outcome = { verdict: { ...withoutCuda.verdict, cudaError } }
    }
  }
  if (outcome.verdict) {
    remember(folder, path, outcome.verdict)
    return outcome.verdict
  }
  const system = systemProblem()
  if (system !== null) throw new PosttrainError('ERR_LIBTORCH_LOAD', `libtorch cannot be used: ${system}.`)
  if (outcome.failure) {
    const code =
      outcome.failure.code === 'ERR_LIBTORCH_VERSION' ? 'ERR_LIBTORCH_VERSION' : 'ERR_LIBTORCH_LOAD'
    throw new PosttrainError(
      code,
      `libtorch (${libtorch.source}) cannot be used: ${outcome.failure.message}; ${remedy(libtorch)}.`,
    )
  }
  throw new PosttrainError(
    'ERR_LIBTORCH_LOAD',
    `Opening ${outcome.opening ?? libtorch.libraries} ends the process (${outcome.signal}); the file is damaged: ${remedy(libtorch)}.`,
  )
}
