import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { type Exchange, ioError, writeFolderAtomic } from '../../files/atomic.js'
import type { Model } from '../../models/model.js'
import type { AdamW } from '../../optim/adamw.js'
import type { WarningEvent } from './events.js'
import { checkFiles, DamagedCheckpoint, type Manifest, readManifest, writeManifest } from './manifest.js'

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

/** Folder of a step's checkpoint inside `checkpoints/`. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${step}`)
}

/** Writes a checkpoint atomically: its parts and the recipe's state. Throws ERR_IO, and the one before stays whole. */
export async function saveCheckpoint(
  folder: string,
  what: { parts: Parts; step: number; state: unknown },
  replace: Exchange,
): Promise<string> {
  const path = checkpointPath(folder, what.step)
  // A file in the place of a checkpoint is a damaged one.
  if ((await lstat(path).catch(() => null))?.isFile()) await rm(path, { force: true }).catch(() => undefined)
  await writeFolderAtomic(
    path,
    async (temporary) => {
      for (const [name, part] of Object.entries(what.parts)) await part.save(join(temporary, name))
      const { step, state } = what
      await writeManifest(temporary, { step, files: Object.keys(what.parts), state })
    },
    { replace },
  )
  return path
}

/** Removes all checkpoints but the `keep` newest and that of `keepStep`; those of `damaged` steps are not counted. */
export async function rotateCheckpoints(
  folder: string,
  { keep, keepStep, damaged }: { keep: number; keepStep: number | null; damaged: readonly number[] },
): Promise<void> {
  const sound = (await stepsIn(folder)).filter((step) => !damaged.includes(step))
  for (const step of [...damaged, ...sound.slice(keep)]) {
    if (step === keepStep) continue
    const path = checkpointPath(folder, step)
    await rm(path, { recursive: true, force: true }).catch((error) => {
      throw ioError('removing', path, error)
    })
  }
}

/** A checkpoint that can be resumed from, and the newer ones that cannot. */
export interface FoundCheckpoint {
  path: string
  state: unknown
  /** The end of a sentence on each damaged one, newest first. */
  damaged: { step: number; why: string }[]
}

/**
 * The newest sound checkpoint in the folder, or null if there are none: complete, with the hashes of its files, and a
 * state in which `faultOf` finds no fault. Throws ERR_INVALID_FILE if all are damaged (starting over would discard the
 * metrics of the run), and for a newer format.
 */
export async function newestCheckpoint(
  folder: string,
  faultOf: (state: unknown, step: number) => string | null = () => null,
): Promise<FoundCheckpoint | null> {
  const damaged: FoundCheckpoint['damaged'] = []
  for (const step of await stepsIn(folder)) {
    const path = checkpointPath(folder, step)
    try {
      const { state } = await soundManifest(path, step, faultOf)
      return { path, state, damaged }
    } catch (error) {
      if (!(error instanceof DamagedCheckpoint)) throw error
      damaged.push({ step, why: error.message })
    }
  }
  if (damaged.length === 0) return null
  const list = damaged.map(({ step, why }) => `step-${step}: ${why}`).join('; ')
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    `Cannot resume: no checkpoint in ${folder} is complete (${list}); restore one, or start over with overwrite`,
  )
}

/** The warning of a resume for which newer checkpoints were passed over. */
export function passedOver(
  { path, damaged }: FoundCheckpoint,
  step: number,
): Pick<WarningEvent, 'code' | 'message'> {
  const list = damaged.map((one) => `step-${one.step} (${one.why})`).join(', ')
  const [first, last] = [step + 1, damaged[0]!.step]
  const again = first === last ? `step ${last} is` : `steps ${first} to ${last} are`
  return {
    code: 'checkpointDamaged',
    message: `The newest checkpoint is damaged, ${list}: the run resumes from ${path}, and ${again} made again`,
  }
}

async function soundManifest(
  path: string,
  step: number,
  faultOf: (state: unknown, step: number) => string | null,
): Promise<Manifest> {
  const manifest = await readManifest(path)
  if (manifest.step !== step) throw new DamagedCheckpoint(`it is of step ${manifest.step}`)
  const fault = faultOf(manifest.state, step)
  if (fault !== null) throw new DamagedCheckpoint(`its state is damaged (${fault})`)
  await checkFiles(path, manifest, 'hashed')
  return manifest
}

/** Whether the sound checkpoint of a step is in the folder. */
export async function hasCheckpoint(folder: string, step: number): Promise<boolean> {
  const path = checkpointPath(folder, step)
  try {
    await soundManifest(path, step, () => null)
    return true
  } catch (error) {
    if (error instanceof DamagedCheckpoint) return false
    throw error
  }
}

/**
 * Loads `parts` in place. Throws ERR_INVALID_FILE, before any weight changes, if the checkpoint is not sound; `unread`:
 * `newestCheckpoint` has just read all of it.
 */
export async function loadCheckpoint(
  path: string,
  parts: Parts,
  content: 'hashed' | 'unread' = 'hashed',
): Promise<void> {
  try {
    const manifest = await readManifest(path)
    const missing = Object.keys(parts).filter((name) => manifest.files[name] === undefined)
    if (missing.length > 0) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `the checkpoint ${path} has no ${missing.join(', ')}: it belongs to a run of another kind`,
      )
    }
    await checkFiles(path, manifest, content)
  } catch (error) {
    if (!(error instanceof DamagedCheckpoint)) throw error
    throw new PosttrainError('ERR_INVALID_FILE', `The checkpoint ${path} cannot be used: ${error.message}`)
  }
  for (const [name, part] of Object.entries(parts)) await part.load(join(path, name))
}

/** Steps of the checkpoints in the folder, newest first. */
async function stepsIn(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw ioError('reading', folder, error)
  })
  return names
    .map((name) => /^step-(0|[1-9]\d*)$/.exec(name)?.[1])
    .filter((step) => step !== undefined)
    .map(Number)
    .filter(Number.isSafeInteger)
    .sort((a, b) => b - a)
}
