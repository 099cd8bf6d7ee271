import { readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Libtorch } from './libtorch.js'
import { hashOf } from './tree.mjs'

/** Hashes that a libtorch was installed with, by path below `home`; null where none were written. */
function hashesOf({ source, folder }: Libtorch): { home: string; sha256: Record<string, string> } | null {
  const home = source === 'cache' ? dirname(folder) : folder
  if (source !== 'cache' && source !== 'package') return null
  try {
    const { sha256, files } = JSON.parse(readFileSync(join(home, 'manifest.json'), 'utf8'))
    if (source === 'cache') return sha256 ? { home, sha256 } : null
    const entries = Object.entries(files as Record<string, { sha256: string }>)
    return { home, sha256: Object.fromEntries(entries.map(([name, file]) => [name, file.sha256])) }
  } catch {
    return null
  }
}

/**
 * Compares the files of a libtorch in the cache, or of a platform package, with the hashes that it was installed with; one
 * to three seconds. Returns the paths that differ; null where there are no hashes: of another origin, or installed
 * before there were any.
 */
export async function damagedLibraries(libtorch: Libtorch): Promise<string[] | null> {
  const known = hashesOf(libtorch)
  if (known === null) return null
  const damaged: string[] = []
  for (const [name, sha256] of Object.entries(known.sha256)) {
    const path = join(known.home, name)
    const isThere = statSync(path, { throwIfNoEntry: false })?.isFile() === true
    if (!isThere || (await hashOf(path)) !== sha256) damaged.push(path)
  }
  return damaged
}
