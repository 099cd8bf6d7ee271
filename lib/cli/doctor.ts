import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statfsSync } from 'node:fs'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import type { EngineInfo } from '../addon/addon.js'
import { cudaMode, findBuild, type LoadState } from '../addon/load.js'
import { remedy } from '../libtorch/find/check.js'
import { damagedLibraries } from '../libtorch/find/damage.js'
import {
  cacheFolder,
  findLibtorch,
  packageRoot,
  searchLibtorch,
  type Tried,
} from '../libtorch/find/libtorch.js'
import { driverProblem, glibcVersion, systemProblem } from '../libtorch/find/system.js'
import { askDriver, type Gpus } from './gpu.js'
import { MARK, type SelfTest } from './self-test.js'

/** One check: its result, and advice if it is not enough. */
export interface Check {
  name:
    | 'package'
    | 'node'
    | 'system'
    | 'tools'
    | 'build'
    | 'libtorch'
    | 'core'
    | 'gpu'
    | 'cuda'
    | 'self-test'
    | 'threads'
    | 'memory'
    | 'cache'
  /** `warning`: training works, but not as well as it could; `failed`: it does not. */
  status: 'ok' | 'warning' | 'failed'
  found: string
  /** One sentence of advice; absent if there is nothing to do. */
  advice?: string
  /** libtorch: the places searched, in order. */
  tried?: Tried[]
}

export interface Diagnosis {
  /** No check has failed. */
  ok: boolean
  checks: Check[]
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`
const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

function system(): Check {
  const platform = `${process.platform}-${process.arch}`
  const glibc = glibcVersion()
  const problem = systemProblem(glibc)
  const library = glibc === undefined ? '' : glibc === null ? ', no glibc' : `, glibc ${glibc}`
  const check = { name: 'system', found: platform + library } as const
  return problem === null ? { ...check, status: 'ok' } : { ...check, status: 'failed', advice: `${problem}.` }
}

/** Build tools; checked in a clone only. */
function tools(): Check | null {
  if (!existsSync(join(packageRoot(), 'scripts/setup.mjs'))) return null
  const programs: [string, string[]][] = [
    [process.env.CXX || 'c++', ['--version']],
    ['cmake', ['--version']],
    ['python3', ['-I', '-m', 'pip', '--version']],
  ]
  const found: string[] = []
  const missing: string[] = []
  for (const [program, args] of programs) {
    const label = program === 'python3' ? 'pip' : program
    const run = spawnSync(program, args, { encoding: 'utf8' })
    if (run.status !== 0) missing.push(label)
    else found.push(run.stdout.split('\n')[0]!.replace(/ from .*/, ''))
  }
  if (missing.length === 0) return { name: 'tools', status: 'ok', found: found.join('; ') }
  const advice = `Install ${missing.join(' and ')} to build from this clone.`
  return { name: 'tools', status: 'warning', found: `no ${missing.join(', no ')}`, advice }
}

/** Runs a step; an error is a failed check, whose message already says what to do. */
function attempt(name: Check['name'], step: () => string): Check {
  try {
    return { name, status: 'ok', found: step() }
  } catch (error) {
    return { name, status: 'failed', found: 'not usable', advice: messageOf(error) }
  }
}

const selfTestMs = 120_000

/** Trains a tiny model in a child process, which a damaged library or driver may kill. */
function selfTest(): Promise<SelfTest> {
  const program = fileURLToPath(new URL('./self-test.js', import.meta.url))
  const env = { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' }
  return new Promise((settle) => {
    const child = spawn(process.execPath, [program], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: selfTestMs,
      killSignal: 'SIGKILL',
    })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-2000)
    })
    child.on('error', ({ message }) => settle({ error: { message } }))
    child.on('close', (code, signal) => {
      const line = stdout.split('\n').find((text) => text.startsWith(MARK))
      if (line !== undefined) return settle(JSON.parse(line.slice(MARK.length)))
      const last = stderr.trim().split('\n').at(-1)
      const how = `training a tiny model in a child process crashed it (${signal ?? `exit code ${code}`})`
      settle({ error: { message: last ? `${how}: ${last}` : `${how}.` } })
    })
  })
}

/** Architectures of the kernels in the core, on systems that CUDA is for. */
function fusedKernels({ cuda: { architectures } }: EngineInfo): string {
  if (architectures !== '') return `, has CUDA kernels for ${architectures}`
  return process.platform === 'linux' ? ', without CUDA kernels (no nvcc at build: NVRTC makes them)' : ''
}

async function core(gpus: Gpus): Promise<Check[]> {
  const result = await selfTest()
  if ('error' in result)
    return [{ name: 'core', status: 'failed', found: 'does not open', advice: result.error.message }]
  const { info, state, trained } = result
  const cores = availableParallelism()
  const limit = process.env.OMP_NUM_THREADS
  const threads = `${info.threads} for libtorch of ${cores} cores${limit ? ` (OMP_NUM_THREADS=${limit})` : ''}`
  const tests = trained.map(({ device, first, last, milliseconds, error }): Check => {
    const check = {
      name: 'self-test',
      found: `${device}, loss ${first.toFixed(2)} to ${last.toFixed(2)} in ${milliseconds} ms`,
    } as const
    if (error === undefined) return { ...check, status: 'ok' }
    const status = device === 'cpu' ? 'failed' : 'warning'
    return { ...check, found: `${device} does not train`, status, advice: `${error}.` }
  })
  return [
    { name: 'core', status: 'ok', found: `opens libtorch ${info.libtorch}${fusedKernels(info)}` },
    { name: 'threads', status: 'ok', found: threads },
    cuda(info.cuda, state, gpus),
    ...tests,
  ]
}

/** The driver and its devices, whether libtorch can use them or not. */
function gpu({ driver, devices }: Gpus): Check {
  if (driver === null) return { name: 'gpu', status: 'ok', found: 'no NVIDIA driver' }
  const list = devices.map(
    ({ name, totalBytes, freeBytes }) => `${name}, ${gigabytes(freeBytes)} free of ${gigabytes(totalBytes)}`,
  )
  const found = [`NVIDIA driver ${driver}`, ...list].join('; ')
  const problem = driverProblem(driver)
  if (problem === null) return { name: 'gpu', status: 'ok', found }
  const advice = `${problem}; update the driver; until then, training runs on the CPU.`
  return { name: 'gpu', status: 'warning', found, advice }
}

function cuda(info: EngineInfo['cuda'], { verdict, libtorch }: LoadState, { driver }: Gpus): Check {
  if (info.devices.length > 0) {
    const kernels = { fatbin: ', own kernels', nvrtc: ', own kernels compiled by NVRTC', none: '' }
    const texts = info.devices.map(
      (of) => `${of.name}, ${gigabytes(of.totalBytes)}${kernels[of.kernels ?? 'none']}`,
    )
    const found = texts.join('; ')
    const problem = info.devices.map(({ kernelsProblem }) => kernelsProblem).find((one) => one !== null)
    if (problem === undefined) return { name: 'cuda', status: 'ok', found }
    const advice = `Training uses torch's operations and is slower: own kernels are missing (${problem}).`
    return { name: 'cuda', status: 'warning', found, advice }
  }
  if (cudaMode() === 'off') return { name: 'cuda', status: 'ok', found: 'switched off by POSTTRAIN_CUDA=0' }
  if (verdict.cudaError) {
    const advice =
      'Training runs on the CPU; run `npx posttrain libtorch install --variant cu130 --force`, or set POSTTRAIN_CUDA=0.'
    return { name: 'cuda', status: 'warning', found: `not usable: ${verdict.cudaError}`, advice }
  }
  if (driver !== null && driverProblem(driver) === null && !verdict.cuda) {
    const advice =
      'An NVIDIA driver is installed, but this libtorch is for the CPU; run `npx posttrain libtorch install --variant cu130`.'
    return { name: 'cuda', status: 'warning', found: `not in this libtorch (${libtorch.source})`, advice }
  }
  return { name: 'cuda', status: 'ok', found: 'no device; training runs on the CPU' }
}

function memory(): Check {
  const total = totalmem()
  const limit = process.constrainedMemory()
  const limited = limit > 0 && limit < total ? `, of which this process may use ${gigabytes(limit)}` : ''
  return {
    name: 'memory',
    status: 'ok',
    found: `${gigabytes(freemem())} free of ${gigabytes(total)}${limited}`,
  }
}

function cache(): Check {
  let folder = 'the cache'
  try {
    folder = cacheFolder()
    mkdirSync(folder, { recursive: true })
    const { bavail, bsize } = statfsSync(folder)
    const free = bavail * bsize
    const found = `${folder}, ${gigabytes(free)} free`
    if (free >= 2e9) return { name: 'cache', status: 'ok', found }
    const advice =
      'libtorch takes 0.5 to 1.5 GB; free some space, or set POSTTRAIN_CACHE to a folder on another disk.'
    return { name: 'cache', status: 'warning', found, advice }
  } catch (error) {
    const advice = `The folder cannot be written (${messageOf(error)}); set POSTTRAIN_CACHE to one that can.`
    return { name: 'cache', status: 'warning', found: folder, advice }
  }
}

/** The libtorch that is found, with the hashes of its files where it was installed with them. */
async function libtorchCheck(): Promise<Check> {
  const check = attempt('libtorch', () => {
    const { folder, version: stated, source } = findLibtorch()
    return `${stated ?? 'unknown version'} in ${folder} (${source})`
  })
  if (check.status === 'failed') return check
  const found = findLibtorch()
  const damaged = await damagedLibraries(found)
  if (damaged === null) return check
  if (damaged.length === 0) return { ...check, found: `${check.found}, files as installed` }
  return {
    ...check,
    status: 'failed',
    found: `${check.found}; changed since it was installed: ${damaged.join(', ')}`,
    advice: `${remedy(found)[0]!.toUpperCase()}${remedy(found).slice(1)}.`,
  }
}

/** Checks everything that training needs on this machine; problems are results, not errors. */
export async function diagnose(): Promise<Diagnosis> {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8'))
  const build = attempt('build', () => {
    const { kind, core: path } = findBuild()
    return `${kind}, ${path}`
  })
  const libtorch = await libtorchCheck()
  libtorch.tried = searchLibtorch().tried
  const gpus = askDriver()
  const whole = build.status === 'ok' && libtorch.status === 'ok'
  const checks: (Check | null)[] = [
    { name: 'package', status: 'ok', found: `posttrain ${version}` },
    { name: 'node', status: 'ok', found: process.versions.node },
    system(),
    tools(),
    build,
    libtorch,
    gpu(gpus),
    ...(whole ? await core(gpus) : []),
    memory(),
    cache(),
  ]
  const present = checks.filter((check) => check !== null)
  return { ok: present.every((check) => check.status !== 'failed'), checks: present }
}

const marks: Record<Check['status'], string> = { ok: 'ok  ', warning: 'warn', failed: 'FAIL' }

function table({ ok, checks }: Diagnosis): string {
  const lines = checks.flatMap(({ name, status, found, advice, tried = [] }) => {
    const indent = `      ${' '.repeat(9)} `
    const places = status === 'ok' ? [] : tried.map(({ place, outcome }) => `${indent}- ${place}: ${outcome}`)
    return [
      `${marks[status]}  ${name.padEnd(9)} ${found}`,
      ...(advice === undefined ? [] : [indent + advice]),
      ...places,
    ]
  })
  return [
    ...lines,
    ok ? 'Everything is ready for training.' : 'posttrain cannot train on this machine yet.',
    '',
  ].join('\n')
}

/** `posttrain doctor [--json]`: exit code 0 if training works, else 1. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check this machine and say how to fix what is missing')
    .option('--json', 'One JSON object on stdout')
    .action(async (options: { json?: boolean }) => {
      const diagnosis = await diagnose()
      process.stdout.write(options.json ? `${JSON.stringify(diagnosis)}\n` : table(diagnosis))
      process.exitCode = diagnosis.ok ? 0 : 1
    })
}
