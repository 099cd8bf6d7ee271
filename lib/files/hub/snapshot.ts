import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AbortError, PosttrainError } from '../../errors.js'
import { download } from '../download.js'
import { waitForLock } from '../lock.js'
import { RepositoryCache } from './cache.js'
import { HubClient, type RemoteFile } from './client.js'
import { type HubEvent, Told } from './events.js'
import { hubFileOf, isCommit, nameOf, type Repository } from './id.js'
import { hubSettings } from './settings.js'

/** Options of access to the Hub; HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE set the rest. */
export interface HubOptions {
  /** Branch, tag or commit, equivalent to `org/name@revision`. Defaults to `'main'`. */
  revision?: string | undefined
  /** Access token of the Hub. Default: HF_TOKEN, or the token stored by `hf auth login`. */
  token?: string | undefined
  /** Called with the progress of downloads and uploads; what it throws ends them, as it is. Optional. */
  onHub?: ((event: HubEvent) => void) | undefined
  /** Aborts requests and downloads. Optional. */
  signal?: AbortSignal | undefined
}

/** Which files of a repository are needed. */
export interface Selection {
  /**
   * Selects the needed files among `names`; `read` returns the text of one. Throws ERR_HUB if an essential file is missing.
   */
  choose(names: ReadonlySet<string>, read: (name: string) => Promise<string>): Promise<string[]>
  /** Files that `choose` takes if they exist. */
  optional: readonly string[]
}

/** Concurrent downloads. */
const PARALLEL = 3
/** A lock is stale after its holder has written nothing for this long. */
const STALE_MS = 5 * 60_000

/** Returns a folder with the needed files of a repository; downloads those not cached. */
export async function hubSnapshot(
  repository: Repository,
  selection: Selection,
  options: HubOptions = {},
): Promise<{ folder: string; commit: string }> {
  const visit = new Visit(repository, options)
  const { cache, client } = visit
  const result = (commit: string) => ({ folder: cache.snapshot(commit), commit })
  if (visit.offline) return result(await visit.fromCache(selection, null))
  if (isCommit(repository.revision) && (await visit.isComplete(repository.revision, selection)))
    return result(repository.revision)
  const commit = await client.commit().catch((error) => visit.fromCache(selection, error))
  if (await visit.isComplete(commit, selection)) {
    await cache.noteCommit(repository.revision, commit)
    return result(commit)
  }
  const remote = new Map((await client.list(commit)).map((file) => [file.path, file]))
  const read = async (name: string) => {
    await visit.fetch(commit, [remote.get(name)!])
    return await readFile(join(cache.snapshot(commit), name), 'utf8')
  }
  const names = await selection.choose(new Set(remote.keys()), read)
  await visit.fetch(
    commit,
    names.map((name) => remote.get(name)!),
  )
  for (const name of selection.optional) if (!remote.has(name)) await cache.noteAbsent(commit, name)
  await cache.noteCommit(repository.revision, commit)
  return result(commit)
}

/** Returns the local path of one file, such as hf://datasets/org/name/train.jsonl; downloads it if not cached. */
export async function hubFile(url: string, options: Omit<HubOptions, 'revision'> = {}): Promise<string> {
  const { repository, path } = hubFileOf(url)
  const visit = new Visit(repository, options)
  const { cache, client } = visit
  const selection: Selection = {
    choose: async (names) => {
      if (names.has(path)) return [path]
      throw new PosttrainError('ERR_HUB', `it has no ${path}`)
    },
    optional: [],
  }
  const at = (commit: string) => join(cache.snapshot(commit), ...path.split('/'))
  if (visit.offline) return at(await visit.fromCache(selection, null))
  if (isCommit(repository.revision) && (await visit.isComplete(repository.revision, selection)))
    return at(repository.revision)
  let found: { file: RemoteFile; commit: string }
  try {
    found = await client.head(path)
  } catch (error) {
    return at(await visit.fromCache(selection, error))
  }
  await visit.fetch(found.commit, [found.file])
  await cache.noteCommit(repository.revision, found.commit)
  return at(found.commit)
}

/** One repository with its cache and its Hub client. */
class Visit {
  readonly cache: RepositoryCache
  readonly client: HubClient
  readonly offline: boolean
  readonly #repository: Repository
  readonly #signal: AbortSignal | undefined
  readonly #told: Told

  constructor(repository: Repository, options: HubOptions) {
    const settings = hubSettings(options.token)
    this.#repository = repository
    this.#signal = options.signal
    this.#told = new Told(nameOf(repository), options.onHub)
    this.offline = settings.offline
    this.cache = new RepositoryCache(settings.cache, repository)
    this.client = new HubClient(repository, settings, options.signal)
  }

  /** True if all needed files of a commit are cached, and absent ones are known not to exist. */
  async isComplete(commit: string, selection: Selection): Promise<boolean> {
    const files = await this.cache.files(commit)
    for (const name of selection.optional) {
      if (!files.has(name) && !(await this.cache.isKnownAbsent(commit, name))) return false
    }
    return (await this.#missing(commit, files, selection)) === null
  }

  /** The cached commit of the revision, when the Hub is unreachable or offline mode is set. */
  async fromCache(selection: Selection, error: unknown): Promise<string> {
    // Only for network errors: a refusal of the Hub stays an error.
    if (error !== null && (error as PosttrainError).code !== 'ERR_NETWORK') throw error
    const commit = await this.cache.commitOf(this.#repository.revision)
    const missing =
      commit === null
        ? 'nothing cached'
        : await this.#missing(commit, await this.cache.files(commit), selection)
    if (missing === null) {
      if (error !== null) this.#told.unreachable((error as Error).message)
      return commit!
    }
    if (error !== null) {
      const { message } = error as Error
      if (this.#repository.type === 'dataset') throw error
      throw new PosttrainError('ERR_NETWORK', `${this.#repository.id} is not a local path, and ${message}`, {
        cause: error,
      })
    }
    throw new PosttrainError(
      'ERR_HUB',
      `${nameOf(this.#repository)} cannot be fetched: HF_HUB_OFFLINE is set and ${this.cache.folder} does not have it (${missing}); fetch it once without HF_HUB_OFFLINE`,
    )
  }

  /** Reason why the cached files of a commit are not enough; null if they are. */
  async #missing(commit: string, files: Set<string>, { choose }: Selection): Promise<string | null> {
    try {
      const names = await choose(files, (name) => readFile(join(this.cache.snapshot(commit), name), 'utf8'))
      const lacking = names.find((name) => !files.has(name))
      return lacking === undefined ? null : `${lacking} is missing`
    } catch (error) {
      if ((error as PosttrainError).code === 'ERR_HUB') return (error as Error).message
      throw error
    }
  }

  /** Downloads files into the snapshot of their commit. */
  async fetch(commit: string, wanted: readonly RemoteFile[]): Promise<void> {
    const here = await this.cache.files(commit)
    const absent = wanted.filter(({ path }) => !here.has(path))
    const known = await Promise.all(absent.map(({ hash }) => stat(this.cache.blob(hash)).catch(() => null)))
    const fetched = absent.filter((_, i) => known[i] === null)
    // Two names may share one blob.
    const queue = [...new Map(fetched.map((file) => [file.hash, file])).values()]
    if (queue.length > 0) this.#told.start('download', queue)
    await this.#fetchBlobs(commit, queue)
    for (const { path, hash } of absent) await this.cache.place(commit, path, hash)
    if (fetched.length > 0) this.#told.end('download', this.cache.snapshot(commit))
  }

  /** Downloads blobs concurrently; the first failure aborts the others. */
  async #fetchBlobs(commit: string, queue: RemoteFile[]): Promise<void> {
    const abort = new AbortController()
    const signal = AbortSignal.any([abort.signal, ...(this.#signal ? [this.#signal] : [])])
    let failure: unknown
    const work = async () => {
      for (let file = queue.shift(); file !== undefined && !signal.aborted; file = queue.shift())
        await this.#fetchBlob(commit, file, signal)
    }
    const guarded = () =>
      work().catch((error) => {
        if (!abort.signal.aborted) failure = error
        abort.abort()
      })
    await Promise.all(Array.from({ length: PARALLEL }, guarded))
    if (abort.signal.aborted) throw failure
    if (signal.aborted) throw new AbortError(signal.reason)
  }

  async #fetchBlob(commit: string, { path, hash, bytes }: RemoteFile, signal: AbortSignal): Promise<void> {
    const blob = this.cache.blob(hash)
    const partial = `${blob}.posttrain.incomplete`
    const release = await waitForLock(await this.cache.lockOf(hash), {
      signal,
      onWait: (pid) => this.#told.wait(path, pid),
      isStale: async (lock) => {
        const { mtimeMs } = await stat(partial).catch(() => stat(lock))
        return Date.now() - mtimeMs > STALE_MS
      },
    })
    try {
      if ((await stat(blob).catch(() => null)) === null) {
        await download(this.client.url(commit, path), blob, {
          ...(hash.length === 64 ? { sha256: hash } : { gitSha1: hash }),
          expectedBytes: bytes,
          partial,
          headers: this.client.headers,
          refusal: (answer) => this.client.refusal(answer),
          signal,
          onProgress: ({ receivedBytes }) => this.#told.progress(path, receivedBytes),
          onRetry: ({ message }) => this.#told.retry(path, this.client.cleared(message)),
        }).catch((error: unknown) => {
          throw this.client.clearedError(error)
        })
      }
      this.#told.progress(path, bytes)
    } finally {
      await release()
    }
  }
}
