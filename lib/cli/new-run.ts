import { mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { PosttrainError } from '../errors.js'

/**
 * Makes the folder of a run that names none: `runs/<recipe>-<date>-<n>`, n being the first free number. It is removed at
 * exit where nothing was written into it.
 */
export function newRunFolder(recipe: string, now = new Date()): string {
  const date = [now.getFullYear(), now.getMonth() + 1, now.getDate()]
    .map((part) => String(part).padStart(2, '0'))
    .join('-')
  try {
    mkdirSync('runs', { recursive: true })
    for (let n = 1; ; n++) {
      const path = join('runs', `${recipe}-${date}-${n}`)
      if (!isMade(path)) continue
      process.once('exit', () => removeEmpty(path))
      return path
    }
  } catch (cause) {
    throw new PosttrainError(
      'ERR_IO',
      `No folder for this run can be made in ./runs: ${(cause as Error).message}; choose another option output`,
      { cause },
    )
  }
}

/** Makes a folder; false where there is one, so that two processes never get the same. */
function isMade(path: string): boolean {
  try {
    mkdirSync(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function removeEmpty(path: string): void {
  for (const folder of [path, 'runs']) {
    try {
      rmdirSync(folder)
    } catch {
      // Not empty: something was saved.
    }
  }
}
