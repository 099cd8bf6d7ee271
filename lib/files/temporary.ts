import { randomBytes } from 'node:crypto'
import { lstat, readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isAlive, placeOf, thisProcess } from './owner.js'

/** What a temporary name holds: content on its way to its path (`tmp`), or what a replacement moved away (`old`). */
type Kind = 'tmp' | 'old'

/** After so long a temporary name of an unknown process is a leftover. */
const DAY_MS = 24 * 60 * 60 * 1000

/** A name beside `path` that says whose it is: `.model.<place>-<pid>-<start>-<random>.tmp`. */
export function temporaryName(path: string, kind: Kind = 'tmp'): string {
  const { pid, start } = thisProcess()
  const owner = `${placeOf(thisProcess())}-${pid}-${start}-${randomBytes(3).toString('hex')}`
  return join(dirname(path), `.${stem(path)}.${owner}.${kind}`)
}

/** Whose a temporary name is. A process of another host or container is unknown, and so are all names of 0.1.0. */
type Whose = 'own' | 'living' | 'gone' | 'unknown'

/** A temporary name of posttrain in a folder. */
export interface Temporary {
  path: string
  /** The path that it stands for; without the dots that its name begins with. */
  of: string
  kind: Kind
  whose: Whose
}

/** All temporary names in a folder; none if it cannot be read. */
export async function temporariesIn(folder: string): Promise<Temporary[]> {
  const found: Temporary[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const parts = parse(name)
    if (parts) found.push({ ...parts, path: join(folder, name), of: join(folder, parts.of) })
  }
  return found
}

/** Temporary names beside a path that stand for it. */
export async function temporariesOf(path: string): Promise<Temporary[]> {
  const name = stem(path)
  return (await temporariesIn(dirname(path))).filter(({ of }) => basename(of) === name)
}

/** Removes what processes that are gone have left beside `path`, and what nobody has touched for a day. */
export async function removeLeftovers(path: string): Promise<void> {
  for (const { path: leftover, whose } of await temporariesOf(path)) {
    if (whose === 'gone' || (await ageMs(leftover, 'mtimeMs')) > DAY_MS)
      await rm(leftover, { recursive: true, force: true }).catch(() => undefined)
  }
}

const stem = (path: string) => basename(path).replace(/^\.+/, '')

/** Time since the content (`mtimeMs`), or the name or content (`ctimeMs`), was changed; 0 if it is gone. */
export const ageMs = (path: string, since: 'mtimeMs' | 'ctimeMs') =>
  lstat(path).then(
    (found) => Date.now() - found[since],
    () => 0,
  )

function parse(name: string): Omit<Temporary, 'path'> | null {
  const owned = /^\.(.+)\.([0-9a-f]{8})-(\d+)-(\d*)-[0-9a-f]{6}\.(tmp|old)$/.exec(name)
  if (owned !== null) {
    const [, of, place, pid, start, kind] = owned
    return { of: of!, kind: kind as Kind, whose: whose(place!, { pid: Number(pid), start: start! }) }
  }
  const before = /^\.(.+)\.[0-9a-f]{12}\.tmp$/.exec(name) ?? /^\.(lock)\.[0-9a-f]{12}$/.exec(name)
  return before && { of: before[1]!, kind: 'tmp', whose: 'unknown' }
}

function whose(place: string, process: { pid: number; start: string }): Whose {
  const own = thisProcess()
  if (place !== placeOf(own)) return 'unknown'
  if (process.pid === own.pid && process.start === own.start) return 'own'
  return isAlive(process) ? 'living' : 'gone'
}
