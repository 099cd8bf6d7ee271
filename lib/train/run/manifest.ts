import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { ioError } from '../../files/atomic.js'

/** Format of a checkpoint: 1 had sizes only (0.1.0); 2 has hashes, of the manifest too. */
const FORMAT = 2

const NAME = 'manifest.json'

/** No state comes near; a larger file is no manifest. */
const MAX_BYTES = 64 * 1024 * 1024

/** What a checkpoint says of each other file in it. */
interface FileFacts {
  bytes: number
  /** Null in format 1. */
  sha256: string | null
}

/** manifest.json of a checkpoint, written last: a folder without it is incomplete. */
export interface Manifest {
  step: number
  files: Record<string, FileFacts>
  /** State of the run besides weights and optimizer state. */
  state: unknown
}

/** A checkpoint that is incomplete or damaged; the message is the end of a sentence. */
export class DamagedCheckpoint extends Error {}

/** Writes the manifest of the files in a folder. */
export async function writeManifest(
  folder: string,
  { step, files, state }: { step: number; files: readonly string[]; state: unknown },
): Promise<void> {
  const facts: Record<string, FileFacts> = {}
  for (const name of files) {
    const path = join(folder, name)
    facts[name] = { bytes: (await stat(path)).size, sha256: await hashOf(path) }
  }
  await writeFile(join(folder, NAME), sealed({ format: FORMAT, step, files: facts, state }))
}

/**
 * Reads and checks the manifest of a checkpoint, without the content of the other files. Throws DamagedCheckpoint, or
 * ERR_INVALID_FILE for a newer format.
 */
export async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, NAME)
  const found = await stat(path).catch((error) => unreadable(NAME, path, error))
  const damaged = () => new DamagedCheckpoint(`its ${NAME} is damaged`)
  if (!found.isFile() || found.size > MAX_BYTES) throw damaged()
  const text = await readFile(path, 'utf8').catch((error) => unreadable(NAME, path, error))
  let value: Record<string, unknown> = {}
  try {
    value = JSON.parse(text)
  } catch {
    throw damaged()
  }
  const { format, step, files, state } = value ?? {}
  if (Number.isSafeInteger(format) && (format as number) > FORMAT) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `The checkpoint ${folder} has format ${format}, and this version reads formats up to ${FORMAT}: resume with the version of posttrain that wrote it, or a newer one`,
    )
  }
  const facts = factsOf(files, format)
  const whole = format === 1 || (format === FORMAT && text === resealed(value))
  if (!whole || facts === null || !Number.isSafeInteger(step)) throw damaged()
  return { step: step as number, files: facts, state }
}

/** Checks the other files of a checkpoint: sizes, and hashes where `content` is to be read. Throws DamagedCheckpoint. */
export async function checkFiles(
  folder: string,
  { files }: Manifest,
  content: 'hashed' | 'unread',
): Promise<void> {
  for (const [name, { bytes, sha256 }] of Object.entries(files)) {
    const path = join(folder, name)
    const found = await stat(path).catch((error) => unreadable(name, path, error))
    if (!found.isFile() || found.size !== bytes)
      throw new DamagedCheckpoint(`${name} has another size than when it was saved`)
    if (content === 'unread' || sha256 === null) continue
    const hash = await hashOf(path).catch((error) => unreadable(name, path, error))
    if (hash !== sha256) throw new DamagedCheckpoint(`${name} differs from its hash`)
  }
}

/** A missing file and a broken sector are damage; what else prevents a read, such as a lacking right, says nothing of the content. */
function unreadable(name: string, path: string, error: NodeJS.ErrnoException): never {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') throw new DamagedCheckpoint(`it has no ${name}`)
  if (error.code === 'EIO') throw new DamagedCheckpoint(`${name} cannot be read (${error.message})`)
  throw ioError('reading', path, error)
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk)
  return hash.digest('hex')
}

/** The text of a manifest with the hash of all of it as its last field. */
export function sealed(value: Record<string, unknown>): string {
  const sha256 = createHash('sha256').update(JSON.stringify(value)).digest('hex')
  return `${JSON.stringify({ ...value, sha256 }, null, 2)}\n`
}

/** What `sealed` would have made of a manifest: any other text is not as it was written. */
function resealed({ sha256: _sha256, ...value }: Record<string, unknown>): string {
  try {
    return sealed(value)
  } catch {
    // Nested too deeply.
    return ''
  }
}

function factsOf(files: unknown, format: unknown): Record<string, FileFacts> | null {
  if (typeof files !== 'object' || files === null) return null
  const facts: Record<string, FileFacts> = {}
  for (const [name, value] of Object.entries(files)) {
    const fact = format === 1 ? { bytes: value, sha256: null } : (value as FileFacts | null)
    const isHashed = format === 1 || /^[0-9a-f]{64}$/.test(String(fact?.sha256))
    // A name, not a path out of the folder.
    if (!/^[a-z][a-z0-9-]*\.safetensors$/.test(name)) return null
    if (!Number.isSafeInteger(fact?.bytes) || !isHashed) return null
    facts[name] = fact as FileFacts
  }
  return facts
}
