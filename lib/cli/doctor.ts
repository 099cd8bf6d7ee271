import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statfsSync } from 'node:fs'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { cacheFolder, findLibtorch, packageRoot } from '../addon/libtorch.js'
import { cudaMode, findBuild, loadCore, loadState } from '../addon/load.js'

/** One thing that was looked at: what was found, and what to do where that is not enough. */
export interface Check {
  name:
    | 'package'
    | 'node'
    | 'system'
    | 'tools'
    | 'build'
    | 'libtorch'
    | 'core'
    | 'cuda'
    | 'threads'
    | 'memory'
    | 'cache'
  /** `warning`: training works, but not as well as it could; `failed`: it does not. */
  status: 'ok' | 'warning' | 'failed'
  found: string
  /** One sentence; absent where nothing is to be done. */
  advice?: string
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
  if (process.platform !== 'linux') return { name: 'system', status: 'ok', found: platform }
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  const glibc = header.glibcVersionRuntime
  if (!glibc) {
    const advice =
      'libtorch needs glibc 2.28 or newer; use an image with glibc, such as Debian, instead of one with musl.'
    return { name: 'system', status: 'failed', found: `${platform}, no glibc`, advice }
  }
  const [major = 0, minor = 0] = glibc.split('.').map(Number)
  const found = `${platform}, glibc ${glibc}`
  if (major > 2 || (major === 2 && minor >= 28)) return { name: 'system', status: 'ok', found }
  return {
    name: 'system',
    status: 'failed',
    found,
    advice: 'libtorch needs glibc 2.28 or newer; use a newer system.',
  }
}

/** In a clone only: what set-up builds with. */
function tools(): Check | null {
  if (!existsSync(join(packageRoot(), 'scripts/setup.mjs'))) return null
  const programs: [string, string[]][] = [
    [process.env.CXX || 'c++', ['--version']],
    ['cmake', ['--version']],
    ['python3', ['-m', 'pip', '--version']],
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

/** A step whose error is a check that failed; its message already says what to do. */
function attempt(name: Check['name'], step: () => string): Check {
  try {
    return { name, status: 'ok', found: step() }
  } catch (error) {
    return { name, status: 'failed', found: 'not usable', advice: messageOf(error) }
  }
}

async function core(): Promise<Check[]> {
  try {
    const info = await (await loadCore()).info()
    const cores = availableParallelism()
    const limit = process.env.OMP_NUM_THREADS
    const threads = `${info.threads} for libtorch of ${cores} cores${limit ? ` (OMP_NUM_THREADS=${limit})` : ''}`
    return [
      { name: 'core', status: 'ok', found: `opens libtorch ${info.libtorch}` },
      { name: 'threads', status: 'ok', found: threads },
      cuda(info.cuda),
    ]
  } catch (error) {
    return [{ name: 'core', status: 'failed', found: 'does not open', advice: messageOf(error) }]
  }
}

function cuda(info: { opened: boolean; devices: { name: string; totalBytes: number }[] }): Check {
  const state = loadState()!
  if (info.devices.length > 0) {
    const devices = info.devices.map(({ name, totalBytes }) => `${name}, ${gigabytes(totalBytes)}`).join('; ')
    return { name: 'cuda', status: 'ok', found: devices }
  }
  if (cudaMode() === 'off') return { name: 'cuda', status: 'ok', found: 'switched off by POSTTRAIN_CUDA=0' }
  const { cudaError } = state.verdict
  if (cudaError) {
    const advice =
      'Training runs on the CPU; add the missing library beside libtorch, or set POSTTRAIN_CUDA=0.'
    return { name: 'cuda', status: 'warning', found: `not usable: ${cudaError}`, advice }
  }
  const driver = existsSync('/dev/nvidiactl')
  if (driver && state.libtorch.version?.endsWith('+cpu')) {
    const advice =
      'There is an NVIDIA driver, but this libtorch is for the CPU; set POSTTRAIN_LIBTORCH to a cu130 libtorch to use it.'
    return { name: 'cuda', status: 'warning', found: 'not in this libtorch', advice }
  }
  return { name: 'cuda', status: 'ok', found: 'no device; training runs on the CPU' }
}

function cache(): Check {
  const folder = cacheFolder()
  try {
    mkdirSync(folder, { recursive: true })
    const { bavail, bsize } = statfsSync(folder)
    const free = bavail * bsize
    const found = `${folder}, ${gigabytes(free)} free`
    if (free >= 2e9) return { name: 'cache', status: 'ok', found }
    const advice =
      'A libtorch takes 0.5 to 1.5 GB; free some space, or set POSTTRAIN_CACHE to a folder on another disk.'
    return { name: 'cache', status: 'warning', found, advice }
  } catch (error) {
    const advice = `The folder cannot be written (${messageOf(error)}); set POSTTRAIN_CACHE to one that can.`
    return { name: 'cache', status: 'warning', found: folder, advice }
  }
}

/** Looks at everything that training needs on this machine. Never throws for what it finds. */
export async function diagnose(): Promise<Diagnosis> {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8'))
  const build = attempt('build', () => {
    const { kind, core: path } = findBuild()
    return `${kind}, ${path}`
  })
  const libtorch = attempt('libtorch', () => {
    const { folder, version: stated, source } = findLibtorch()
    return `${stated ?? 'unknown version'} in ${folder} (${source})`
  })
  const whole = build.status === 'ok' && libtorch.status === 'ok'
  const checks: (Check | null)[] = [
    { name: 'package', status: 'ok', found: `posttrain ${version}` },
    { name: 'node', status: 'ok', found: process.versions.node },
    system(),
    tools(),
    build,
    libtorch,
    ...(whole ? await core() : []),
    { name: 'memory', status: 'ok', found: `${gigabytes(freemem())} free of ${gigabytes(totalmem())}` },
    cache(),
  ]
  const present = checks.filter((check) => check !== null)
  return { ok: present.every((check) => check.status !== 'failed'), checks: present }
}

const marks: Record<Check['status'], string> = { ok: 'ok  ', warning: 'warn', failed: 'FAIL' }

function table({ ok, checks }: Diagnosis): string {
  const lines = checks.flatMap(({ name, status, found, advice }) => {
    const line = `${marks[status]}  ${name.padEnd(9)} ${found}`
    return advice === undefined ? [line] : [line, `      ${' '.repeat(9)} ${advice}`]
  })
  return [
    ...lines,
    ok ? 'Everything needed is there.' : 'posttrain cannot train on this machine yet.',
    '',
  ].join('\n')
}

/** `posttrain doctor [--json]`: exit code 0 where training works, 1 where it does not. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('say what was found on this machine, and what to do where something is missing')
    .option('--json', 'one JSON object on stdout')
    .action(async (options: { json?: boolean }) => {
      const diagnosis = await diagnose()
      process.stdout.write(options.json ? `${JSON.stringify(diagnosis)}\n` : table(diagnosis))
      process.exitCode = diagnosis.ok ? 0 : 1
    })
}
