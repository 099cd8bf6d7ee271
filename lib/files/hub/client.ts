import { shorten, shown as shownValue } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { type Answer, discard, requestAgain, shown, textOf } from '../http.js'
import { isSafePath, nameOf, type Repository } from './id.js'
import type { HubSettings } from './settings.js'

/** A file of a commit. */
export interface RemoteFile {
  path: string
  bytes: number
  /** sha256 where the Hub keeps it as a large file, else git's sha1 of the blob; the name of the blob in the cache. */
  hash: string
}

/** Media type of the Git LFS API. */
export const LFS_JSON = 'application/vnd.git-lfs+json'

/** Shortest token that is looked for in messages: shorter ones are words. */
const SECRET = 8
/** Most characters of what a server says. */
const MAX_SAID = 1000

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const encoded = (path: string) => path.split('/').map(encodeURIComponent).join('/')

/** Most characters of the path of a file, as on most file systems. */
const MAX_PATH = 4096

/** Pages of a list of files: a Hub has a thousand files on each. */
const MAX_PAGES = 1000

/** Client of one repository on one Hub. */
export class HubClient {
  readonly repository: Repository
  readonly #settings: HubSettings
  readonly #signal: AbortSignal | undefined

  constructor(repository: Repository, settings: HubSettings, signal?: AbortSignal) {
    this.repository = repository
    this.#settings = settings
    this.#signal = signal
  }

  /** Sends the token to the endpoint's origin only. */
  headersFor(url: string): Record<string, string> {
    return new URL(url).origin === new URL(this.#settings.endpoint).origin ? this.headers : {}
  }

  get headers(): Record<string, string> {
    const { token } = this.#settings
    if (token !== null) return { Authorization: `Bearer ${token}` }
    return this.#settings.login === null ? {} : { Authorization: this.#settings.login }
  }

  /** Current commit of the revision. */
  async commit(): Promise<string> {
    return (await this.info()).sha
  }

  /** The repository at its revision, as the Hub describes it. */
  async info(): Promise<{ sha: string; private: boolean }> {
    const { revision } = this.repository
    const info = await this.object(`${this.api}/revision/${encodeURIComponent(revision)}`)
    const { sha } = info
    if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha)) throw this.strange('names no commit')
    return { sha, private: info.private === true }
  }

  /** Every file of a commit. */
  async list(commit: string): Promise<RemoteFile[]> {
    const files: RemoteFile[] = []
    let next: string | null = `${this.api}/tree/${commit}?recursive=true`
    for (let page = 0; next !== null; page++) {
      if (page === MAX_PAGES) throw this.strange(`lists files on more than ${MAX_PAGES} pages`)
      const answer: Answer = await this.ask(next)
      const entries = this.#parsed(await textOf(answer))
      if (!Array.isArray(entries)) throw this.strange('returns no list of files')
      for (const entry of entries as unknown[]) {
        if (!isRecord(entry)) throw this.strange('returns no list of files')
        if (entry.type !== 'file') continue
        const large = isRecord(entry.lfs) ? entry.lfs : null
        files.push(this.#file(entry.path, large ? large.oid : entry.oid, large?.size ?? entry.size))
      }
      const following: string | undefined = /<([^>]+)>\s*;\s*rel="?next"?/.exec(
        String(answer.headers.link ?? ''),
      )?.[1]
      if (following !== undefined && !URL.canParse(following, next))
        throw this.strange('continues its list of files at an invalid address')
      next = following === undefined ? null : new URL(following, next).href
      // The request for the next page carries the token.
      if (next !== null && new URL(next).origin !== new URL(this.#settings.endpoint).origin)
        throw this.strange('continues its list of files on another server')
    }
    return files
  }

  /** Metadata of one file at the revision, and its commit. */
  async head(path: string): Promise<{ file: RemoteFile; commit: string }> {
    const answer = await this.ask(this.url(this.repository.revision, path), {
      method: 'HEAD',
      // The Hub's own response describes the file, not that of the server it redirects to.
      follow: ({ headers }, to) =>
        headers['x-linked-etag'] === undefined && to.origin === new URL(this.#settings.endpoint).origin,
    })
    const { headers } = answer
    const linked = headers['x-linked-etag'] ?? headers.etag
    const size = headers['x-linked-size'] ?? headers['content-length']
    const commit = headers['x-repo-commit']
    if (typeof commit !== 'string' || !/^[0-9a-f]{40}$/.test(commit)) throw this.strange('names no commit')
    const hash = String(linked).replace(/^W\//, '').replace(/^"|"$/g, '')
    return { file: this.#file(path, hash, Number(size)), commit }
  }

  url(revision: string, path: string): string {
    const { type, id } = this.repository
    const prefix = type === 'dataset' ? 'datasets/' : ''
    return `${this.#settings.endpoint}/${prefix}${id}/resolve/${encodeURIComponent(revision)}/${encoded(path)}`
  }

  get api(): string {
    return `${this.#settings.endpoint}/api/${this.repository.type}s/${this.repository.id}`
  }

  #file(path: unknown, hash: unknown, bytes: unknown): RemoteFile {
    if (typeof path !== 'string' || path.length > MAX_PATH || !isSafePath(path))
      throw this.strange(`names a file ${shownValue(path)}, which points outside its folder`)
    if (typeof hash !== 'string' || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash))
      throw this.strange(`returns no hash for ${path}`)
    if (!Number.isSafeInteger(bytes) || (bytes as number) < 0)
      throw this.strange(`returns no size for ${path}`)
    return { path, hash, bytes: bytes as number }
  }

  /** Error for an answer that no Hub gives. */
  strange(what: string): PosttrainError {
    return new PosttrainError(
      'ERR_NETWORK',
      `${this.#settings.endpoint} does not respond like a Hub for ${nameOf(this.repository)}: it ${what}; check HF_ENDPOINT`,
    )
  }

  /** JSON response of the Hub; `value` is posted as JSON. */
  async json(
    url: string,
    value?: unknown,
    type: 'application/json' | typeof LFS_JSON = 'application/json',
  ): Promise<unknown> {
    const more: Parameters<typeof requestAgain>[1] =
      value === undefined
        ? {}
        : {
            method: 'POST',
            body: JSON.stringify(value),
            headers: { ...this.headers, Accept: type, 'Content-Type': type },
          }
    return this.#parsed(await textOf(await this.ask(url, more)))
  }

  /** `json` where the Hub answers with an object. */
  async object(...asked: Parameters<HubClient['json']>): Promise<Record<string, unknown>> {
    const answer = await this.json(...asked)
    if (isRecord(answer)) return answer
    throw this.strange(`returns no object for ${shown(asked[0])}`)
  }

  #parsed(text: string): unknown {
    try {
      return JSON.parse(text)
    } catch {
      throw this.strange('returns invalid JSON')
    }
  }

  async text(url: string, more: Parameters<typeof requestAgain>[1]): Promise<string> {
    return await textOf(await this.ask(url, more))
  }

  /** Sends a request to the Hub; throws its refusal for a status of 400 or above. */
  async ask(url: string, more: Parameters<typeof requestAgain>[1] = {}): Promise<Answer> {
    const answer = await requestAgain(url, { headers: this.headers, signal: this.#signal, ...more }).catch(
      (error: unknown) => {
        throw this.clearedError(error)
      },
    )
    if (answer.status < 400) {
      if (more.method === 'HEAD') answer.body.resume()
      return answer
    }
    discard(answer)
    throw this.refusal(answer)
  }

  /** Text of a server, short, without what acts on a terminal and without the token, which it may echo. */
  cleared(text: string): string {
    const { token } = this.#settings
    const secret = token !== null && token.length >= SECRET ? text.replaceAll(token, '***') : text
    return shorten(secret.replace(/\p{Cc}+/gu, ' '), MAX_SAID)
  }

  /** An error without the token. */
  clearedError(error: unknown): unknown {
    if (!(error instanceof PosttrainError)) return error
    return new PosttrainError(error.code, this.cleared(error.message), { cause: error.cause })
  }

  /** Error for a refused request: why, and what to do. */
  refusal({ status, headers, url }: Answer): PosttrainError {
    const { endpoint, token } = this.#settings
    const { type, id, revision } = this.repository
    const name = nameOf(this.repository)
    const said = this.cleared(String(headers['x-error-message'] ?? ''))
    const page = `${endpoint}/${type === 'dataset' ? 'datasets/' : ''}${id}`
    const other = new PosttrainError(
      'ERR_NETWORK',
      `${this.cleared(shown(url))} cannot be fetched: the server answered ${status}${said ? ` (${said})` : ''}`,
    )
    if (url.origin !== new URL(endpoint).origin) return other
    const fail = (message: string) => new PosttrainError('ERR_HUB', message)
    switch (headers['x-error-code']) {
      case 'GatedRepo':
        return fail(
          token === null
            ? `${name} is gated: request access at ${page}, then set HF_TOKEN to your access token`
            : `${name} is gated and the token has no access: request access at ${page}`,
        )
      case 'RevisionNotFound':
        return fail(
          `${id} has no revision ${revision} on ${endpoint}: use a branch, tag or commit listed at ${page}`,
        )
      case 'EntryNotFound':
        return fail(`${name} has no such file on ${endpoint}: ${this.cleared(shown(url))}; see ${page}`)
      case 'DisabledRepo':
        return fail(`${name} was disabled on ${endpoint}`)
    }
    if (status === 401 && token !== null && /invalid/i.test(said))
      return fail(
        `${endpoint} does not accept the token: create a new one at ${endpoint}/settings/tokens and set HF_TOKEN`,
      )
    if (status === 401 || status === 404) {
      const none =
        type === 'dataset'
          ? `${endpoint} has no dataset ${id}`
          : `${id} is neither a local path nor a model on ${endpoint}`
      return fail(
        `${none}: check the name, ${token === null ? 'and set HF_TOKEN if it is private' : 'and that the token has access'}`,
      )
    }
    if (status === 403)
      return fail(`${endpoint} refuses ${name}${said ? ` (${said})` : ''}: use a token with access to it`)
    return other
  }
}
