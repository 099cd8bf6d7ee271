// The package posttrain: the files that `files` in package.json selects, with the published manifest.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SetupError } from '../setup/process.mjs'
import { packedFiles } from './npm.mjs'
import { libtorchPackage, platforms, repository } from './platforms.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Packages needed to compile an installed package on a platform without prebuilds. */
const toolsForBuilding = ['node-addon-api', 'node-api-headers', 'node-gyp']

/** All files that the package may hold: derived from the sources tracked by git, plus `prebuilds`. */
export function whitelist(prebuilds) {
  const tracked = execFileSync('git', ['ls-files', 'lib', 'native', 'scripts/setup'], {
    cwd: root,
    encoding: 'utf8',
  })
    .split('\n')
    .filter(Boolean)
  const compiled = tracked
    .filter((path) => path.startsWith('lib/'))
    .flatMap((path) =>
      path.endsWith('.mjs')
        ? [path, `dist/${path}`, `dist/${path.replace(/\.mjs$/, '.d.mts')}`]
        : ['.js', '.d.ts'].map((end) => `dist/${path.replace(/\.ts$/, end)}`),
    )
  const sources = tracked.filter((path) => /^(native|scripts)\//.test(path) && !path.includes('/test_hooks/'))
  const fixed = ['package.json', 'README.md', 'CHANGELOG.md', 'LICENSE', 'binding.gyp']
  return [
    ...fixed,
    'scripts/build.mjs',
    'scripts/build-gyp.mjs',
    ...compiled,
    ...sources,
    ...prebuilds,
  ].sort()
}

/** The published package.json: without this repository's tools, with the libtorch packages. */
export function publishedManifest() {
  const {
    private: _,
    binary,
    scripts,
    devDependencies,
    ...manifest
  } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const packages = Object.keys(platforms).map(libtorchPackage)
  return {
    ...manifest,
    ...repository(),
    scripts: { 'build:gyp': scripts['build:gyp'] },
    optionalDependencies: Object.fromEntries(packages.map(({ name, version }) => [name, version])),
    devDependencies: Object.fromEntries(toolsForBuilding.map((name) => [name, devDependencies[name]])),
    publishConfig: { access: 'public' },
  }
}

/** Writes the package to `folder`; requires `prebuilds/` and `dist/`. */
export function stageMain(folder) {
  const shelves = existsSync(join(root, 'prebuilds')) ? readdirSync(join(root, 'prebuilds')) : []
  if (shelves.length === 0) throw new SetupError('No prebuilds were found; run npm run prebuild.')
  const files = packedFiles(root)
  const prebuilds = files.filter((path) => path.startsWith('prebuilds/'))
  const allowed = new Set(whitelist(prebuilds))
  const leftOver = files.filter((path) => !allowed.has(path))
  if (leftOver.length > 0) {
    throw new SetupError(`${leftOver[0]} has no tracked source; delete dist/ and compile again.`)
  }
  rmSync(folder, { recursive: true, force: true })
  for (const path of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    const bytes = readFileSync(join(root, path))
    // Source maps are left out, because their sources are not packed.
    const code = /^dist\/.*\.m?js$/.test(path)
    const content = code ? bytes.toString('utf8').replace(/\n\/\/# sourceMappingURL=\S+\s*$/, '\n') : bytes
    writeFileSync(join(folder, path), content, path === 'dist/lib/cli/main.js' ? { mode: 0o755 } : {})
  }
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(publishedManifest(), null, 2)}\n`)
}
