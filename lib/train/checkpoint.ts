import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../errors.js'
import { writeFolderAtomic } from '../files/atomic.js'
import type { CausalLM } from '../models/causal-lm.js'
import type { AdamW } from '../optim/adamw.js'

/** manifest.json of a checkpoint: written last, so that a folder that has it was written to its end. */
interface Manifest {
  format: 1
  step: number
  /** Bytes of each other file. */
  files: Record<string, number>
  /** What the recipe keeps besides weights and moments. */
  state: unknown
}

const WEIGHTS = 'model.safetensors'
const MOMENTS = 'optimizer.safetensors'
const MANIFEST = 'manifest.json'

/** The folder of a step's checkpoint inside `checkpoints/`. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${step}`)
}

/**
 * Writes a checkpoint, whole or not at all: weights, moments and the recipe's state. Then removes all but the
 * `keep` newest ones and that of `keepStep`. Throws ERR_IO, and leaves the others as they were.
 */
export async function saveCheckpoint(
  folder: string,
  what: { model: CausalLM; optimizer: AdamW; step: number; state: unknown },
  options: { keep: number; keepStep: number | null },
): Promise<string> {
  const path = checkpointPath(folder, what.step)
  await writeFolderAtomic(
    path,
    async (temporary) => {
      await what.model.saveWeights(join(temporary, WEIGHTS))
      await what.optimizer.save(join(temporary, MOMENTS))
      const files: Record<string, number> = {}
      for (const name of [WEIGHTS, MOMENTS]) files[name] = (await stat(join(temporary, name))).size
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

/** The newest whole checkpoint in the folder, or null where there is none. */
export async function newestCheckpoint(folder: string): Promise<string | null> {
  for (const step of await stepsIn(folder)) {
    const path = checkpointPath(folder, step)
    if ((await readManifest(path)) !== null) return path
  }
  return null
}

/** Reads weights, and moments where an optimizer is given, in place, and gives the recipe's state. */
export async function loadCheckpoint(
  path: string,
  into: { model: CausalLM; optimizer?: AdamW },
): Promise<unknown> {
  const manifest = await readManifest(path)
  if (manifest === null) {
    throw new PosttrainError('ERR_INVALID_FILE', `${path} is not a whole checkpoint: take another one`)
  }
  await into.model.loadWeights(join(path, WEIGHTS))
  await into.optimizer?.load(join(path, MOMENTS))
  return manifest.state
}

async function readManifest(path: string): Promise<Manifest | null> {
  try {
    const manifest = JSON.parse(await readFile(join(path, MANIFEST), 'utf8')) as Manifest
    for (const name of [WEIGHTS, MOMENTS]) {
      if ((await stat(join(path, name))).size !== manifest.files[name]) return null
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
