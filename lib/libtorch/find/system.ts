import { readFileSync } from 'node:fs'
import { libtorchConstants } from './libtorch.js'

/** Version of glibc; null on musl, undefined outside Linux. */
export function glibcVersion(): string | null | undefined {
  if (process.platform !== 'linux') return undefined
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime ?? null
}

/** Why no libtorch can be opened on a system with this C library, and what to do; null where one can. */
export function systemProblem(glibc = glibcVersion()): string | null {
  const { glibc: needed } = libtorchConstants().needs
  if (glibc === null)
    return `this system has musl instead of glibc, and libtorch needs glibc ${needed} or newer; use an image with glibc, such as Debian's, instead of Alpine's`
  if (glibc === undefined || !isOlder(glibc, needed)) return null
  return `this system has glibc ${glibc}, and libtorch needs ${needed} or newer; use a newer system or image`
}

/** Version of the NVIDIA kernel driver on Linux; null if there is none. */
export function driverVersion(file = '/proc/driver/nvidia/version'): string | null {
  try {
    return /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(readFileSync(file, 'utf8'))?.[1] ?? null
  } catch {
    return null
  }
}

/** Why the CUDA libraries cannot run with this driver; null where they can, or where nothing is known of it. */
export function driverProblem(driver: string | null): string | null {
  const { driver: needed } = libtorchConstants().needs
  if (driver === null || !isOlder(driver, needed)) return null
  return `the NVIDIA driver ${driver} is older than ${needed}, which CUDA 13 needs`
}

/** By numbers, one after another. */
function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number)) as [number[], number[]]
  for (let i = 0; i < b.length; i++) {
    const difference = (a[i] ?? 0) - b[i]!
    if (difference !== 0) return difference < 0
  }
  return false
}
