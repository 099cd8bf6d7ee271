// Fails on paths of one machine in committed files, and on download addresses in the lockfile.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const machinePath = /(^|[\s"'`(=:])(\/(root|Users|home\/[a-z]\w*)\/[\w.-]|[A-Z]:\\\\?Users\\)/

/** Lines of committed text files that name a place on one machine or an address to download from. */
export function committedPaths(root) {
  const names = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' })
    .split('\0')
    .filter(Boolean)
  const found = []
  for (const name of names) {
    const bytes = readFileSync(join(root, name))
    if (bytes.includes(0)) continue
    for (const [n, line] of bytes.toString('utf8').split('\n').entries()) {
      if (machinePath.test(line))
        found.push(`${name}:${n + 1}: a path of one machine: ${line.trim().slice(0, 80)}`)
      if (name === 'package-lock.json' && /"resolved"\s*:/.test(line)) {
        found.push(`${name}:${n + 1}: a download address; run npm with omit-lockfile-registry-resolved=true`)
      }
    }
  }
  return found
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = committedPaths(fileURLToPath(new URL('../..', import.meta.url)))
  for (const line of found) console.error(line)
  console.log(`committed paths: ${found.length} wrong`)
  process.exitCode = found.length === 0 ? 0 : 1
}
