import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { writeFolderAtomic } from '../../files/atomic.js'
import type { Model } from '../../models/model.js'
import type { AdamW } from '../../optim/adamw.js'

/** manifest.json of a checkpoint, written last: a folder without it is incomplete. */
interface Manifest {
  format: 1
  step: number
  /** Size of each other file, in bytes. */
  files: Record<string, number>
  /** State of the run besides weights and optimizer state. */
  state: unknown
}

/** The tensor files of a checkpoint by name, each with its writer and reader. */
export type Parts = Record<string, { save(path: string): Promise<void>; load(path: string): Promise<void> }>

/** Weights and optimizer state of one model; `prefix` distinguishes the files of several models. */
export function partsOf(model: Model, optimizer: AdamW, prefix = ''): Parts {
  return {
    [`${prefix}model.safetensors`]: {
      save: (path) => model.saveWeights(path),
      load: (path) => model.loadWeights(path),
    },
    [`${prefix}optimizer.safetensors`]: {
      save: (path) => optimizer.save(path),
      load: (path) => optimizer.load(path),
    },
  }
}

const MANIFEST = 'manifest.json'

/** Folder of a step's checkpoint inside `checkpoints/`. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${step}`)
}

/**
 * Writes a checkpoint atomically: its parts and the recipe's state. Then removes all others but the `keep` newest and
 * that of `keepStep`. Throws ERR_IO and then removes nothing.
 */
export async function saveCheckpoint(
  folder: string,
  what: { parts: Parts; step: number; state: unknown },
  options: { keep: number; keepStep: number | null },
): Promise<string> {
  const path = checkpointPath(folder, what.step)
  await writeFolderAtomic(
    path,
    async (temporary) => {
      const files: Record<string, number> = {}
      for (const [name, part] of Object.entries(what.parts)) {
        await part.save(join(temporary, name))
        files[name] = (await stat(join(temporary, name))).size
      }
      const manifest: Manifest = { format: 1, step: what.step, files, state: what.state }
      await writeFile(join(temporary, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`)
    },
    { replace: true },
  )
  const steps = await stepsIn(folder)
  for (const step of steps.slice(options.keep)) {
    if (step !== options.keepStep) await rm(checkpointPath(folder, step), { recursive: true })
  }
  return path
}

/**
 * Path of the newest complete checkpoint in the folder, or null if there are none. Throws ERR_INVALID_FILE if all are
 * incomplete: starting over would discard the metrics of the run.
 */
export async function newestCheckpoint(folder: string): Promise<string | null> {
  const steps = await stepsIn(folder)
  for (const step of steps) {
    const path = checkpointPath(folder, step)
    if ((await readManifest(path)) !== null) return path
  }
  if (steps.length === 0) return null
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    `Cannot resume: no checkpoint in ${folder} is complete (${steps.map((step) => `step-${step}`).join(', ')}); restore one, or start over with overwrite`,
  )
}

/** Whether the complete checkpoint of a step is in the folder. */
export async function hasCheckpoint(folder: string, step: number): Promise<boolean> {
  return (await readManifest(checkpointPath(folder, step))) !== null
}

/** Reads only the recipe's state, so that a resume can be refused before a weight changes. */
export async function checkpointState(path: string): Promise<unknown> {
  return (await completeManifest(path)).state
}

/** Loads `parts` in place and returns the recipe's state. */
export async function loadCheckpoint(path: string, parts: Parts): Promise<unknown> {
  const manifest = await completeManifest(path)
  const missing = Object.keys(parts).filter((name) => manifest.files[name] === undefined)
  if (missing.length > 0) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `the checkpoint ${path} has no ${missing.join(', ')}: it belongs to a run of another kind`,
    )
  }
  for (const [name, part] of Object.entries(parts)) await part.load(join(path, name))
  return manifest.state
}

async function completeManifest(path: string): Promise<Manifest> {
  const manifest = await readManifest(path)
  if (manifest !== null) return manifest
  throw new PosttrainError('ERR_INVALID_FILE', `${path} is not a complete checkpoint: use another one`)
}

async function readManifest(path: string): Promise<Manifest | null> {
  try {
    const manifest = JSON.parse(await readFile(join(path, MANIFEST), 'utf8')) as Manifest
    for (const [name, size] of Object.entries(manifest.files)) {
      if ((await stat(join(path, name))).size !== size) return null
    }
    return manifest.format === 1 ? manifest : null
  } catch {
    return null
  }
}

/** Steps of the checkpoints in the folder, newest first. */
async function stepsIn(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .map((name) => /^step-(\d+)$/.exec(name)?.[1])
    .filter((step) => step !== undefined)
    .map(Number)
    .sort((a, b) => b - a)
}
