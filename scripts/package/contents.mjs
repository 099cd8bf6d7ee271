// Checks the tarball of posttrain: exactly the whitelist, no path of this machine, and valid metadata.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pathsOfThisMachine, prebuildFiles } from '../prebuild.mjs'
import { whitelist } from './main.mjs'
import { thisPlatform } from './platforms.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Problems with the files, one sentence each. */
export function contentProblems(tarball, libtorch) {
  const folder = mkdtempSync(join(tmpdir(), 'posttrain-tarball-'))
  try {
    execFileSync('tar', ['-xzf', tarball, '-C', folder])
    const packed = readdirSync(join(folder, 'package'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(`${folder}/package/`.length))
      .sort()
    const expected = whitelist(prebuildFiles.map((name) => `prebuilds/${thisPlatform}/${name}`))
    const problems = [
      ...expected.filter((path) => !packed.includes(path)).map((path) => `${path} is missing`),
      ...packed.filter((path) => !expected.includes(path)).map((path) => `${path} is not in the whitelist`),
    ]
    for (const path of packed) {
      const file = join(folder, 'package', path)
      const paths = pathsOfThisMachine(file, libtorch)
      if (paths.length > 0) problems.push(`${path} contains ${paths.join(', ')}`)
      if (/\.m?js$/.test(path) && readFileSync(file, 'utf8').includes('\n//# sourceMappingURL=')) {
        problems.push(`${path} refers to a source map that is not packed`)
      }
    }
    const { scripts, private: hidden } = JSON.parse(
      readFileSync(join(folder, 'package/package.json'), 'utf8'),
    )
    const install = Object.keys(scripts).filter((name) => /^(pre|post)?(install|prepare|pack)$/.test(name))
    if (install.length > 0 || hidden) problems.push(`package.json has ${hidden ? 'private' : install.join()}`)
    return problems
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Findings of publint and `attw` about the tarball. */
export function metadataProblems(tarball) {
  const bin = (name) => join(root, 'node_modules/.bin', name)
  // The package is ESM only: `require` of it works from Node 20.19 and 22.12 on.
  const runs = [
    ['publint', ['--strict', tarball]],
    ['attw', ['--profile', 'esm-only', '--no-emoji', tarball]],
  ]
  return runs.flatMap(([name, args]) => {
    const run = spawnSync(bin(name), args, {
      encoding: 'utf8',
      cwd: root,
      env: { ...process.env, NO_COLOR: '1' },
    })
    return run.status === 0 ? [] : [`${name}: ${run.stdout}${run.stderr}${run.error ?? ''}`]
  })
}
