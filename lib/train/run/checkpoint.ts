import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { writeFolderAtomic } from '../../files/atomic.js'
import type { Model } from '../../models/model.js'
import type { AdamW } from '../../optim/adamw.js'

/** manifest.json of a checkpoint: written last, so that a folder that has it was written to its end. */
interface Manifest {
  format: 1
  step: number
  /** Bytes of each other file. */
  files: Record<string, number>
  /** What the recipe keeps besides weights and moments. */
  state: unknown
}

/** What is trained together: each file of a checkpoint and how it is written and read. */
export type Parts = Record<string, { save(path: string): Promise<void>; load(path: string): Promise<void> }>

/** The files of one model and its optimizer; `prefix` tells several apart. */
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

/** The folder of a step's checkpoint inside `checkpoints/`. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${step}`)
}

/**
 * Writes a checkpoint, whole or not at all: its parts and the recipe's state. Then removes all but the
 * `keep` newest ones and that of `keepStep`. Throws ERR_IO, and leaves the others as they were.
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
 * The newest whole checkpoint in the folder, or null where none was ever written. Throws ERR_INVALID_FILE where none is
 * whole any more: to begin anew would throw away what the run has told.
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
    `Cannot resume: no checkpoint in ${folder} is whole (${steps.map((step) => `step-${step}`).join(', ')}); bring one back, or begin anew with overwrite`,
  )
}

/** The recipe's state alone, by which a resume may be refused before a weight is changed. */
export async function checkpointState(path: string): Promise<unknown> {
  return (await wholeManifest(path)).state
}

/** Reads those parts that are given, in place, and gives the recipe's state. */
export async function loadCheckpoint(path: string, parts: Parts): Promise<unknown> {
  const manifest = await wholeManifest(path)
  const missing = Object.keys(parts).filter((name) => manifest.files[name] === undefined)
  if (missing.length > 0) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `the checkpoint ${path} has no ${missing.join(', ')}: it is of another kind of run`,
    )
  }
  for (const [name, part] of Object.entries(parts)) await part.load(join(path, name))
  return manifest.state
}

async function wholeManifest(path: string): Promise<Manifest> {
  const manifest = await readManifest(path)
  if (manifest !== null) return manifest
  throw new PosttrainError('ERR_INVALID_FILE', `${path} is not a whole checkpoint: take another one`)
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

/** Steps of the checkpoints there, newest first. */
async function stepsIn(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .map((name) => /^step-(\d+)$/.exec(name)?.[1])
    .filter((step) => step !== undefined)
    .map(Number)
    .sort((a, b) => b - a)
}
