import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

type Owner = Pick<ExecutionContext, 'teardown'>

const shared = new Set<string>()
const remove = (folder: string) => rmSync(folder, { recursive: true, force: true })

/** A new empty folder, removed when the test ends; without a test, when the process of its file does. Also on failure. */
export function newFolder(t?: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'posttrain-test-'))
  if (t) {
    t.teardown(() => remove(folder))
  } else {
    if (shared.size === 0) {
      process.on('exit', () => {
        for (const each of shared) remove(each)
      })
    }
    shared.add(folder)
  }
  return folder
}

/** A path that does not exist yet, in a folder that is removed when the test ends. */
export function cleanFolder(t: Owner): string {
  return join(newFolder(t), 'run')
}
