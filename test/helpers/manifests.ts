import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sealed } from '../../lib/train/run/manifest.js'

/** The fields of a manifest that a test changes. */
export interface ManifestFields {
  format: number
  step: number
  files: Record<string, { bytes: number; sha256: string }>
  state: Record<string, never> & { step: number; environment: { threads: number }; reference: number }
}

export function readManifestOf(checkpoint: string): ManifestFields {
  const { sha256: _sha256, ...manifest } = JSON.parse(readFileSync(join(checkpoint, 'manifest.json'), 'utf8'))
  return manifest
}

/** Writes the manifest of a checkpoint anew, with the hash of its new content. */
export function resealManifest(checkpoint: string, manifest: object): void {
  writeFileSync(join(checkpoint, 'manifest.json'), sealed({ ...manifest }))
}
