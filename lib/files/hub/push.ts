import { createHash } from 'node:crypto'
import { createReadStream, type Stats } from 'node:fs'
import { lstat, open, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { is, needArgument, needOptions } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import type { HubClient } from './client.js'
import { Told } from './events.js'
import { repositoryOf } from './id.js'
import type { LargeFile, LocalFile } from './large-files.js'
import { needHubOptions } from './options.js'
import { hubSettings } from './settings.js'
import type { HubOptions } from './snapshot.js'

/** Options of `push`. */
export interface PushOptions extends HubOptions {
  /** Makes a new repository private; an existing one is not changed. Defaults to `false`. */
  private?: boolean | undefined
  /** Title of the commit. Defaults to `'Upload by posttrain'`. */
  message?: string | undefined
}

/**
 * Uploads the files of a model or adapter folder to `org/name` on the Hub in one commit. Creates the repository, and the
 * branch of `revision`, if they do not exist. Files of the repository that the folder does not have are kept.
 *
 * A link to a file in the folder is uploaded as that file.
 *
 * @throws PosttrainError ERR_HUB if the Hub refuses, ERR_NETWORK if it does not respond, ERR_INVALID_FILE for a folder
 * that is neither, or has a link to a folder or to outside.
 */
export async function push(
  directory: string,
  to: string,
  options: PushOptions = {},
): Promise<{ commit: string; url: string }> {
  needArgument('push', 'the folder', directory, is.path)
  needArgument('push', 'the repository', to, is.path)
  needHubOptions('push', options)
  needOptions('push', options, { private: is.flag, message: is.text })
  const repository = repositoryOf(to, options.revision)
  if (repository === null) {
    throw new PosttrainError('ERR_INVALID_ARGUMENT', `${to} is not a repository name: write org/name`)
  }
  const settings = hubSettings(options.token)
  if (settings.offline) {
    throw new PosttrainError('ERR_HUB', `cannot push to ${to}: HF_HUB_OFFLINE is set`)
  }
  if (settings.token === null) {
    throw new PosttrainError(
      'ERR_HUB',
      `cannot push to ${to} without a token: create one with write access at ${settings.endpoint}/settings/tokens and set HF_TOKEN`,
    )
  }
  const files = await filesOf(directory)
  const { signal } = options
  // Loaded only when pushing.
  const { HubClient } = await import('./client.js')
  const { askForUpload, upload } = await import('./large-files.js')
  const client = new HubClient(repository, settings, signal)
  await prepare(client, settings.endpoint, options)
  const told = new Told(to, options.onHub)
  const misnamed = await localBase(directory)
  if (misnamed !== null)
    told.warning(
      `the adapter names ${JSON.stringify(misnamed)} as its base, which nobody else can load: set base_model_name_or_path in adapter_config.json to org/name`,
    )
  const { large, small, lines } = await sorted(client, files)
  const objects = await askForUpload(client, settings.endpoint, large)
  const sent = large.filter(({ oid }) => objects.get(oid)?.actions?.upload !== undefined)
  told.start('upload', [...sent, ...small])
  for (const file of sent) {
    await upload(client, file, objects.get(file.oid)!, {
      signal,
      onProgress: (bytes) => told.progress(file.path, bytes),
    })
  }
  const header = { summary: options.message ?? 'Upload by posttrain', description: '' }
  const body = [{ key: 'header', value: header }, ...lines].map((line) => JSON.stringify(line)).join('\n')
  const answer = await client.text(`${client.api}/commit/${encodeURIComponent(repository.revision)}`, {
    method: 'POST',
    body: `${body}\n`,
    headers: { ...client.headers, 'Content-Type': 'application/x-ndjson' },
    // Without a response nobody knows whether the commit was made.
    retries: 0,
  })
  for (const { path, bytes } of small) told.progress(path, bytes)
  const { commitOid, commitUrl } = commitIn(answer)
  if (typeof commitOid !== 'string')
    throw client.strange('names no commit, though the files may have been accepted')
  const url =
    typeof commitUrl === 'string' ? commitUrl : `${settings.endpoint}/${repository.id}/commit/${commitOid}`
  told.end('upload', url)
  return { commit: commitOid, url }
}

/** The base that the config of an adapter names, where it is a path of this machine; null otherwise. */
async function localBase(directory: string): Promise<string | null> {
  const text = await readFile(join(directory, 'adapter_config.json'), 'utf8').catch(() => null)
  if (text === null) return null
  try {
    const { base_model_name_or_path: base } = JSON.parse(text) as { base_model_name_or_path?: unknown }
    if (typeof base !== 'string' || base === '') return null
    return repositoryOf(base) === null || (await stat(base).catch(() => null)) !== null ? base : null
  } catch {
    return null
  }
}

function commitIn(answer: string): { commitOid?: unknown; commitUrl?: unknown } {
  try {
    return JSON.parse(answer) ?? {}
  } catch {
    return {}
  }
}

/** Every file of a model or adapter folder except hidden ones; none from outside the folder. */
async function filesOf(directory: string): Promise<LocalFile[]> {
  const has = async (...path: string[]) => (await stat(join(directory, ...path)).catch(() => null)) !== null
  if (!(await has('config.json')) && !(await has('adapter_config.json'))) {
    const inner = (await has('model')) ? 'model' : (await has('adapter')) ? 'adapter' : null
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${directory} has neither config.json nor adapter_config.json${inner === null ? ': pass the folder of a model or an adapter' : `: push ${join(directory, inner)} instead`}`,
    )
  }
  const root = await realpath(directory)
  const files: LocalFile[] = []
  const walk = async (below: string) => {
    for (const name of (await readdir(join(directory, below))).sort()) {
      if (name.startsWith('.')) continue
      const path = below === '' ? name : `${below}/${name}`
      const from = join(directory, path)
      const found = await lstat(from)
      if (found.isDirectory()) {
        await walk(path)
        continue
      }
      const { size } = found.isSymbolicLink() ? await linked(root, from) : found
      if (!found.isSymbolicLink() && !found.isFile()) throw refusal(from, 'is not a file')
      files.push({ path, from, bytes: size })
    }
  }
  await walk('')
  return files
}

/** The file behind a link. Throws ERR_INVALID_FILE for one to outside the folder, which must not be published. */
async function linked(root: string, path: string): Promise<Stats> {
  const [target, found] = await Promise.all([realpath(path), stat(path)]).catch(() => [])
  if (target === undefined || found === undefined) throw refusal(path, 'is a broken link')
  if (target !== root && !target.startsWith(root + sep))
    throw refusal(path, `is a link to ${target}, outside the folder`)
  if (!found.isFile()) throw refusal(path, `is a link to ${target}, which is not a file`)
  return found
}

const refusal = (path: string, why: string) =>
  new PosttrainError(
    'ERR_INVALID_FILE',
    `${path} ${why}, and cannot be pushed: replace it with the file itself, or remove it`,
  )

/** Creates the repository and its branch if they do not exist. */
async function prepare(client: HubClient, endpoint: string, options: PushOptions): Promise<void> {
  const { id, revision } = client.repository
  const wanted = options.private === true
  const refusedFor = async (call: Promise<unknown>): Promise<string | null> => {
    try {
      await call
      return null
    } catch (error) {
      if (!(error instanceof PosttrainError) || error.code !== 'ERR_HUB') throw error
      return error.message
    }
  }
  const main = new URL(`${client.api}/revision/main`).href
  if ((await refusedFor(client.json(main))) !== null) {
    const [organization, name] = id.split('/')
    await client.json(`${endpoint}/api/repos/create`, {
      name,
      organization,
      type: 'model',
      private: wanted,
      visibility: wanted ? 'private' : 'public',
    })
  }
  // Checked before any file is uploaded.
  if (wanted && (await client.object(main)).private !== true) {
    throw new PosttrainError(
      'ERR_HUB',
      `${id} already exists on ${endpoint} and is public: make it private in its settings, or push without option private`,
    )
  }
  if (revision === 'main' || (await refusedFor(client.info())) === null) return
  await client.json(`${client.api}/branch/${encodeURIComponent(revision)}`, {})
}

/** Asks the Hub which files are large, and makes the lines of the commit. */
async function sorted(
  client: HubClient,
  files: readonly LocalFile[],
): Promise<{ large: LargeFile[]; small: LocalFile[]; lines: object[] }> {
  const asked = await Promise.all(
    files.map(async ({ path, from, bytes }) => ({ path, size: bytes, sample: await sampleOf(from) })),
  )
  const url = `${client.api}/preupload/${encodeURIComponent(client.repository.revision)}`
  const answer = await client.object(url, { files: asked })
  if (!Array.isArray(answer.files)) throw client.strange('does not say how to send the files')
  const modes = new Map<unknown, { uploadMode?: unknown; shouldIgnore?: unknown }>(
    answer.files.map((file) => [file?.path, file ?? {}]),
  )
  const large: LargeFile[] = []
  const small: LocalFile[] = []
  const lines: object[] = []
  for (const file of files) {
    const { path, from, bytes } = file
    const mode = modes.get(path)
    if (mode === undefined) throw client.strange(`does not say how to send ${path}`)
    if (mode.shouldIgnore === true) continue
    if (mode.uploadMode === 'lfs' && bytes > 0) {
      const oid = await sha256Of(from)
      large.push({ ...file, oid })
      lines.push({ key: 'lfsFile', value: { path, algo: 'sha256', oid, size: bytes } })
    } else {
      small.push(file)
      const content = (await readFile(from)).toString('base64')
      lines.push({ key: 'file', value: { path, content, encoding: 'base64' } })
    }
  }
  return { large, small, lines }
}

async function sampleOf(path: string): Promise<string> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(512), 0, 512, 0)
    return buffer.toString('base64', 0, bytesRead)
  } finally {
    await file.close()
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return hash.digest('hex')
}
