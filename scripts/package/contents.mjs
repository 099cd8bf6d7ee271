// What is in the tarball of posttrain: exactly the whitelist, no path of this machine, and metadata that tools agree with.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pathsOfThisMachine, prebuildFiles } from '../prebuild.mjs'
import { whitelist } from './main.mjs'
import { thisPlatform } from './platforms.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Sentences about what is wrong with the files. */
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
      ...packed.filter((path) => !expected.includes(path)).map((path) => `${path} is too much`),
    ]
    for (const path of packed) {
      const file = join(folder, 'package', path)
      const paths = pathsOfThisMachine(file, libtorch)
      if (paths.length > 0) problems.push(`${path} names ${paths.join(', ')}`)
      if (/\.m?js$/.test(path) && readFileSync(file, 'utf8').includes('\n//# sourceMappingURL=')) {
        problems.push(`${path} points to a map that is not packed`)
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

/** What publint and `attw` have to say about the tarball; empty where they have nothing. */
export function metadataProblems(tarball) {
  const bin = (name) => join(root, 'node_modules/.bin', name)
  // The package is an ES module only: `require` of it works in Node from 20.19 and 22.12 on.
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
