import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

type Owner = Pick<ExecutionContext, 'teardown'>

/** Folders that are there still; AVA ends the process of a file that takes too long by SIGTERM. */
const folders = new Set<string>()

function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
  folders.delete(folder)
}

function removeAll(): void {
  for (const folder of folders) remove(folder)
}

function removeAtEnd(): void {
  process.on('exit', removeAll)
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.once(signal, () => {
      removeAll()
      process.kill(process.pid, signal)
    })
  }
}

let prepared = false

/** A new empty folder, removed when the test ends; without a test, when the process of its file does. Also on failure. */
export function newFolder(t?: Owner): string {
  if (!prepared) removeAtEnd()
  prepared = true
  const folder = mkdtempSync(join(tmpdir(), 'posttrain-test-'))
  folders.add(folder)
  t?.teardown(() => remove(folder))
  return folder
}

/** A path that does not exist yet, in a folder that is removed when the test ends. */
export function cleanFolder(t: Owner): string {
  return join(newFolder(t), 'run')
}
