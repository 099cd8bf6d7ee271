// Which files of a libtorch are kept, and its manifest. Plain JavaScript: set-up uses it before anything is compiled.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

const unused = /libtorch_python|test|_with_compiler|custom_ops|libshm/

/**
 * True if an entry of an official archive (`libtorch/`) or of a wheel (`torch/`) is kept.
 *
 * @param {string} name
 */
export function isKept(name) {
  return (
    /^(lib)?torch\/(include\/|version\.py$|build-version$)/.test(name) ||
    (/^(lib)?torch\/lib\/[^/]+\.(so|dll|lib|dylib)[^/]*$/.test(name) && !unused.test(name)) ||
    /^nvidia\/cu13\/lib\/.*\.so/.test(name)
  )
}

/**
 * The version that a libtorch folder says it has, such as 2.13.0+cpu; null where it says none.
 *
 * @param {string} folder
 * @returns {string | null}
 */
export function versionOfTree(folder) {
  for (const name of ['version.py', 'build-version']) {
    const path = join(folder, name)
    if (!existsSync(path)) continue
    const text = readFileSync(path, 'utf8')
    return (/__version__\s*=\s*'([^']+)'/.exec(text) ?? [null, text.trim()])[1] ?? null
  }
  return null
}

/**
 * Written last into a folder of the cache: one that has it is whole. Sizes tell a file that was cut.
 *
 * @param {string} home
 * @param {string} version
 * @param {string} source
 * @returns {{ version: string, source: string, libraries: Record<string, number> }}
 */
export function manifestOf(home, version, source) {
  /** @type {Record<string, number>} */
  const libraries = {}
  for (const part of ['torch/lib', 'nvidia/cu13/lib']) {
    if (!existsSync(join(home, part))) continue
    for (const name of readdirSync(join(home, part)))
      libraries[`${part}/${name}`] = statSync(join(home, part, name)).size
  }
  return { version, source, libraries }
}
