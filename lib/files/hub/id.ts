import { stat } from 'node:fs/promises'
import { PosttrainError } from '../../errors.js'

/** A repository of the Hub, at a branch, tag or commit. */
export interface Repository {
  type: 'model' | 'dataset'
  /** org/name */
  id: string
  revision: string
}

const NAME = '[A-Za-z0-9_][A-Za-z0-9._-]{0,95}'
const ID = new RegExp(`^(${NAME}/${NAME})(?:@(.+))?$`)
const SCHEME = 'hf://'
const DEFAULT_REVISION = 'main'

/** Branches and tags may have slashes, but no `.` or `..` segments. */
function isRevision(text: string): boolean {
  return /^[\w.+-]+(\/[\w.+-]+)*$/.test(text) && !/(^|\/)\.{1,2}(\/|$)/.test(text)
}

/**
 * The repository of `org/name` or `org/name@revision`, with or without `hf://`; null if the text is no such id. The
 * `revision` argument is equivalent to one after the @.
 */
export function repositoryOf(text: string, revision?: string): Repository | null {
  const bare = text.startsWith(SCHEME) ? text.slice(SCHEME.length) : text
  const [, id, own] = ID.exec(bare) ?? []
  if (id === undefined || /\.\.|--|\.git$/.test(id)) return null
  if (own !== undefined && revision !== undefined && own !== revision) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${text} names the revision ${own}, but the option revision is ${revision}: pass only one`,
    )
  }
  const wanted = own ?? revision ?? DEFAULT_REVISION
  if (!isRevision(wanted)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${JSON.stringify(wanted)} is not a valid branch, tag or commit`,
    )
  }
  return { type: 'model', id, revision: wanted }
}

/** `repositoryOf`, or null if a file or folder of this name exists: local paths take precedence. */
export async function repositoryUnlessPath(text: string, revision?: string): Promise<Repository | null> {
  if ((await stat(text).catch(() => null)) !== null) {
    if (revision === undefined) return null
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `revision cannot be used with the local path ${text}: write hf://org/name for a repository on the Hub`,
    )
  }
  return repositoryOf(text, revision)
}

export const isHubFile = (text: string) => text.startsWith(SCHEME)

/** The repository and path of `hf://datasets/org/name[@revision]/path`; without `datasets/`, of a model repository. */
export function hubFileOf(text: string): { repository: Repository; path: string } {
  const [, datasets, owner, name, revision, path] =
    /^hf:\/\/(datasets\/)?(?!datasets\/)([^/@]+)\/([^/@]+)(?:@((?:refs\/(?:pr|convert)\/)?[^/]+))?\/(.+)$/.exec(
      text,
    ) ?? []
  const repository = path === undefined ? null : repositoryOf(`${owner}/${name}`, revision)
  if (repository === null || !isSafePath(path!)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${text} is not a file on the Hub: write hf://datasets/org/name/file.jsonl, with @revision after the name for a revision other than main`,
    )
  }
  return { repository: { ...repository, type: datasets === undefined ? 'model' : 'dataset' }, path: path! }
}

/** Names that Windows takes for devices, for a stream of another file, or for the name without its end. */
const WINDOWS = /^(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\.|$)|[<>:"|?*\p{Cc}]|[. ]$/iu

/** True if the path of a file stays inside its folder, and is the name of a file there. */
export function isSafePath(path: string, platform: string = process.platform): boolean {
  if (/[\\\0]|^[A-Za-z]:/.test(path)) return false
  return path
    .split('/')
    .every(
      (part) => part !== '' && part !== '.' && part !== '..' && !(platform === 'win32' && WINDOWS.test(part)),
    )
}

export const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision)

/** Name for messages, without the default revision. */
export function nameOf({ type, id, revision }: Repository): string {
  const name = revision === DEFAULT_REVISION ? id : `${id}@${revision}`
  return type === 'dataset' ? `the dataset ${name}` : name
}
