import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { libtorchConstants } from '../../lib/libtorch/find/libtorch.js'
import type { InstallEvent, Installed, InstallOptions } from '../../lib/libtorch/installation.js'
import { runNode } from './child.js'
import { newFolder } from './scratch.js'
import { library, writeZip, type ZipEntries } from './zip.js'

const { version } = libtorchConstants()

/** A small archive as the official ones are; stored, so that half of its bytes are half of it. */
export const entries: ZipEntries = {
  'libtorch/lib/libtorch_cpu.so': library('library '.repeat(4000)),
  'libtorch/build-version': `${version}+cpu\n`,
  'libtorch/lib/libc10.so': library('c10'),
  'libtorch/lib/libtorch_python.so': 'not wanted',
  'libtorch/include/ATen/ATen.h': 'header',
}
export const official = writeZip(newFolder(), 'libtorch-cpu.zip', entries)
export const archiveOf = (path: string) => {
  const bytes = readFileSync(path)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return { path: 'cpu/libtorch-cpu.zip', bytes: bytes.length, sha256 }
}
export const archives = { cpu: archiveOf(official) }

export interface Outcome {
  installed?: Installed
  error?: { name: string; code?: string; message: string }
  events: InstallEvent[]
}

/** Installs in a process of its own; null where that was killed. */
export async function install(
  options: InstallOptions,
  env: Record<string, string>,
  known: object = archives,
): Promise<Outcome | null> {
  const program = fileURLToPath(new URL('../libtorch/install-child.js', import.meta.url))
  const clean = {
    POSTTRAIN_LIBTORCH_MIRROR: 'http://127.0.0.1:1',
    POSTTRAIN_OFFLINE: '',
    NO_PROXY: '',
    HTTP_PROXY: '',
  }
  const { stdout } = await runNode([program, JSON.stringify(options), JSON.stringify(known)], {
    env: { ...clean, ...env },
  })
  return stdout ? JSON.parse(stdout) : null
}
