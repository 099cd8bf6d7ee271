import { copyFile, link, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { ioError, makeFolder, writeFileAtomic } from '../atomic.js'
import { isCommit, type Repository } from './id.js'

/**
 * The folder of one repository in the Hub's cache, laid out as Hugging Face's own tools do it: `blobs/` by hash,
 * `snapshots/<commit>/` with links to them, `refs/<revision>` with a commit, `.no_exist/<commit>/` with empty files for
 * paths that a commit is known not to have.
 */
export class RepositoryCache {
  readonly folder: string
  readonly #locks: string

  constructor(cache: string, { type, id }: Repository) {
    const name = `${type}s--${id.replace('/', '--')}`
    this.folder = join(cache, name)
    this.#locks = join(cache, '.locks', name)
  }

  /** The cached commit of a revision; null if unknown. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision
    const text = await readFile(join(this.folder, 'refs', ...revision.split('/')), 'utf8').catch(() => '')
    return isCommit(text.trim()) ? text.trim() : null
  }

  async noteCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return
    await writeFileAtomic(join(this.folder, 'refs', ...revision.split('/')), commit)
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit)
  }

  /** Paths of the cached files of a commit, with slashes. */
  async files(commit: string): Promise<Set<string>> {
    const root = this.snapshot(commit)
    const found = new Set<string>()
    for (const entry of await readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])) {
      const path = join(entry.parentPath ?? entry.path, entry.name)
      // A link whose blob is gone is no file.
      if ((await stat(path).catch(() => null))?.isFile()) found.add(relative(root, path).split(sep).join('/'))
    }
    return found
  }

  async isKnownAbsent(commit: string, path: string): Promise<boolean> {
    return (await stat(this.#absent(commit, path)).catch(() => null)) !== null
  }

  async noteAbsent(commit: string, path: string): Promise<void> {
    const marker = this.#absent(commit, path)
    await makeFolder(dirname(marker))
    await writeFile(marker, '')
  }

  #absent(commit: string, path: string): string {
    return join(this.folder, '.no_exist', commit, ...path.split('/'))
  }

  blob(hash: string): string {
    return join(this.folder, 'blobs', hash)
  }

  async lockOf(hash: string): Promise<string> {
    await makeFolder(this.#locks)
    return join(this.#locks, `${hash}.posttrain.lock`)
  }

  /** Places a cached blob into a snapshot: a relative link, or a copy where links cannot be made. */
  async place(commit: string, path: string, hash: string): Promise<void> {
    const at = join(this.snapshot(commit), ...path.split('/'))
    const blob = this.blob(hash)
    try {
      await makeFolder(dirname(at))
      if ((await stat(at).catch(() => null)) !== null) return
      await rm(at, { force: true })
      await symlink(relative(dirname(at), blob), at).catch(async (error: NodeJS.ErrnoException) => {
        // Another process created it first.
        if (error.code === 'EEXIST') return
        if (!['EPERM', 'ENOTSUP', 'ENOSYS', 'EACCES'].includes(error.code ?? '')) throw error
        await link(blob, at).catch(() => copyFile(blob, at))
      })
    } catch (cause) {
      throw ioError('writing', at, cause)
    }
  }
}
