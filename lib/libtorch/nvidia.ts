import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { neededBy } from './find/elf.mjs'
import { libtorchConstants } from './find/libtorch.js'

/** NVIDIA's own, but not those that come with the driver. */
const nvidia = /^lib(cu|nv|nccl)/
const ofDriver = /^lib(cuda|nvidia-.*|nvcuvid|nvml)\.so/

/** NVIDIA's libraries that the libraries in a folder ask for and that are not beside them, in order of their names. */
export function missingLibraries(folder: string): string[] {
  const missing = new Set<string>()
  for (const name of readdirSync(folder)) {
    // Plugins of NVIDIA's, for networks and debuggers, ask for more than they need here.
    if (!/^lib(torch|c10|cu)/.test(name) || name.startsWith('libcufile_')) continue
    for (const needed of neededBy(join(folder, name))) {
      if (nvidia.test(needed) && !ofDriver.test(needed) && !existsSync(join(folder, needed)))
        missing.add(needed)
    }
  }
  return [...missing].sort()
}

/** Packages to ask pip for, and libraries that no known package has. */
export function packagesOf(libraries: string[]): { requirements: string[]; unknown: string[] } {
  const packages = Object.entries(libtorchConstants().nvidia)
  return {
    requirements: packages
      .filter(([, entry]) => entry.libraries.some((name) => libraries.includes(name)))
      .map(([name, { version }]) => `${name}==${version}`),
    unknown: libraries.filter((name) => !packages.some(([, entry]) => entry.libraries.includes(name))),
  }
}

/** Entries of NVIDIA's wheels that are kept: libraries and licences. */
export function isKeptOfWheel(name: string): boolean {
  return (
    /^nvidia\/[^/]+\/lib\/[^/]+\.so[^/]*$/.test(name) ||
    /\.dist-info\/(.*\/)?(licen[cs]e|notice)[^/]*$/i.test(name)
  )
}

/** Where they go: beside libtorch's own, where NVIDIA's look for each other. */
export function placeOfWheelEntry(name: string): string {
  return name.includes('.dist-info/')
    ? join('licenses', name.split('.dist-info/')[0]!, name.split('/').at(-1)!)
    : join('torch/lib', name.split('/').at(-1)!)
}

/** The command that brings packages into a folder, for people. */
export function pipCommandFor(requirements: string[], folder: string): string {
  return `python3 -m pip download --no-deps --only-binary=:all: --dest ${folder} ${requirements.join(' ')}`
}

/** -I: without modules of the current folder, where a `pip.py` of a stranger may lie. */
const PIPS = [['python3', '-I', '-m', 'pip'], ['pip3'], ['py', '-I', '-m', 'pip']]

/** Runs pip; null where it brought all, else why not. */
export async function pipDownload(
  requirements: string[],
  folder: string,
  signal?: AbortSignal | undefined,
): Promise<string | null> {
  const args = ['download', '--no-deps', '--only-binary=:all:', '--dest', folder, ...requirements]
  for (const [program, ...first] of PIPS) {
    const version = await run(program!, [...first, '--version'], folder, signal)
    if (version.code !== 0) continue
    const { code, tail } = await run(program!, [...first, ...args], folder, signal)
    return code === 0 ? null : `pip: ${tail.trim().split('\n').at(-1) || `exit code ${code}`}`
  }
  return 'pip is not installed'
}

function run(
  program: string,
  args: string[],
  cwd: string,
  signal: AbortSignal | undefined,
): Promise<{ code: number; tail: string }> {
  return new Promise((settle) => {
    const child = spawn(program, args, {
      cwd,
      stdio: ['ignore', 'ignore', 'pipe'],
      ...(signal && { signal }),
    })
    let tail = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      tail = (tail + text).slice(-4000)
    })
    child.on('error', (error) => settle({ code: 127, tail: error.message }))
    child.on('close', (code) => settle({ code: code ?? 1, tail }))
  })
}
