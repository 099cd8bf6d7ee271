import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'
import { createPackageWithOptions, extractAll, getRawHeader } from '@electron/asar'
import test from 'ava'
import { findBuild } from '../../lib/addon/load.js'
import { findLibtorch, librarySuffix, packageRoot, unpacked } from '../../lib/libtorch/find/libtorch.js'
import { newFolder } from '../helpers/scratch.js'
import { choiceOf, TrainerChild } from './trainer-child.js'

const scratch = newFolder()

const root = packageRoot()
const example = join(root, 'examples/electron')
const platform = `${process.platform}-${process.arch}`
const libtorch = findLibtorch()
const build = findBuild()
const forge = createRequire(import.meta.url)(join(example, 'forge.config.cjs'))
const builder = JSON.parse(readFileSync(join(example, 'electron-builder.json'), 'utf8'))

/** Paths below a folder, in order. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort()
}

/** Packages that training needs; openai, for teachers, is a thousand files that are never opened. */
function dependenciesOf(folder: string, found = new Set<string>()): Set<string> {
  const { dependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  for (const name of Object.keys(dependencies)) {
    if (found.has(name) || name === 'openai') continue
    found.add(name)
    dependenciesOf(join(root, 'node_modules', name), found)
  }
  return found
}

/** The app as a packager finds it: the example, posttrain with a prebuild, its dependencies, a package of libtorch. */
function appFolder(): string {
  const app = join(scratch, 'app')
  const installed = join(app, 'node_modules/posttrain')
  cpSync(join(root, 'dist/examples/electron/src'), join(app, 'dist/src'), { recursive: true })
  cpSync(join(example, 'package.json'), join(app, 'package.json'))
  cpSync(join(root, 'dist/lib'), join(installed, 'dist/lib'), { recursive: true })
  for (const name of ['package.json', 'native/libtorch.json'])
    cpSync(join(root, name), join(installed, name), { recursive: true })
  const prebuild = join(installed, 'prebuilds', platform)
  mkdirSync(prebuild, { recursive: true })
  cpSync(build.stub, join(prebuild, 'posttrain.node'))
  cpSync(build.core, join(prebuild, basename(build.core)))
  for (const name of dependenciesOf(root)) {
    const folder = join(root, 'node_modules', name)
    const filter = (path: string) => !/\.(map|[cm]?ts)$/.test(path)
    cpSync(folder, join(app, 'node_modules', name), { recursive: true, filter })
  }
  const torch = join(app, 'node_modules/@posttrain', `libtorch-${platform}`)
  mkdirSync(join(torch, 'lib'), { recursive: true })
  writeFileSync(
    join(torch, 'package.json'),
    JSON.stringify({ name: `@posttrain/libtorch-${platform}`, version: '2.13.0' }),
  )
  // Half a gigabyte is not packed for a test: where a file goes is decided by its name.
  for (const name of readdirSync(libtorch.libraries)) writeFileSync(join(torch, 'lib', name), name)
  return app
}

/**
 * Resources of a packaged app in which plain Node can run: what is in the archive lies in a folder that is called
 * app.asar, and what was unpacked is only in app.asar.unpacked. Electron shows the archive as such a folder too.
 */
async function packaged(
  name: string,
  unpack: string,
): Promise<{ archive: string; outside: string[]; resources: string }> {
  const resources = join(scratch, name)
  const archive = join(resources, 'app.asar')
  mkdirSync(resources)
  await createPackageWithOptions(join(scratch, 'app'), archive, { unpack })
  return { archive, outside: filesOf(`${archive}.unpacked`), resources }
}

type Entry = { files?: Record<string, Entry>; unpacked?: boolean }
function* inArchive(entry: Entry, path = ''): Generator<{ path: string; unpacked: boolean }> {
  for (const [name, child] of Object.entries(entry.files ?? {})) {
    if (child.files) yield* inArchive(child, join(path, name))
    else yield { path: join(path, name), unpacked: child.unpacked === true }
  }
}

test.before(() => void appFolder())

const native = [
  ...readdirSync(libtorch.libraries).map(
    (name) => `node_modules/@posttrain/libtorch-${platform}/lib/${name}`,
  ),
  `node_modules/@posttrain/libtorch-${platform}/package.json`,
  `node_modules/posttrain/prebuilds/${platform}/${basename(build.core)}`,
  `node_modules/posttrain/prebuilds/${platform}/posttrain.node`,
].sort()

test.serial(
  'what cannot be opened inside an archive lies outside, by the settings of Forge and of electron-builder',
  async (t) => {
    // electron-builder takes a list, @electron/asar and with it Forge one pattern.
    const settings = { forge: forge.packagerConfig.asar.unpack, builder: `{${builder.asarUnpack.join(',')}}` }
    for (const [name, unpack] of Object.entries(settings)) {
      const { archive, outside } = await packaged(name, unpack)
      t.deepEqual(outside, native, name)
      const { header } = getRawHeader(archive) as { header: Entry }
      const inside = [...inArchive(header)]
      t.deepEqual(
        inside
          .filter((entry) => entry.unpacked)
          .map(({ path }) => path)
          .sort(),
        native,
      )
      for (const path of [
        'dist/src/main.js',
        'node_modules/posttrain/dist/lib/index.js',
        'node_modules/zod/package.json',
      ])
        t.true(
          inside.some((entry) => entry.path === path && !entry.unpacked),
          path,
        )
      t.is(
        inside
          .filter(({ path }) => new RegExp(`\\.(node|${librarySuffix()})$`).test(path))
          .every((entry) => entry.unpacked),
        true,
      )
    }
  },
)

test.serial('from inside of app.asar the library beside it is opened, and it trains', async (t) => {
  const { archive, resources } = await packaged('run', forge.packagerConfig.asar.unpack)
  const shown = join(resources, 'shown')
  extractAll(archive, shown)
  for (const path of native) if (!path.endsWith('.json')) rmSync(join(shown, path))
  rmSync(archive)
  cpSync(shown, archive, { recursive: true })
  // The real libraries in the place of those that stood for them.
  const torch = join(`${archive}.unpacked`, 'node_modules/@posttrain', `libtorch-${platform}`)
  for (const name of readdirSync(libtorch.libraries)) {
    rmSync(join(torch, 'lib', name))
    symlinkSync(join(libtorch.libraries, name), join(torch, 'lib', name))
  }
  const inside = (path: string) => join(archive, path)
  t.is(unpacked(inside(native[0]!)), join(`${archive}.unpacked`, native[0]!))
  t.is(unpacked(inside('dist/src/main.js')), inside('dist/src/main.js'))

  const env = {
    POSTTRAIN_LIBTORCH: '',
    LIBTORCH: '',
    POSTTRAIN_BUILD: '',
    POSTTRAIN_CACHE: join(scratch, 'cache'),
  }
  const trainer = new TrainerChild(t, { path: inside('dist/src/trainer-process.js'), env })
  const choice = await choiceOf(t, 16)
  trainer.send({ type: 'train', choice })
  t.is((await trainer.next('end')).reason, 'completed')
  t.is(trainer.of('step').length, 2)
  const maps = readFileSync(`/proc/${trainer.process.pid}/maps`, 'utf8')
  for (const path of [basename(build.core), 'posttrain.node'])
    t.true(
      maps.includes(join(`${archive}.unpacked`, 'node_modules/posttrain/prebuilds', platform, path)),
      path,
    )
  trainer.send({ type: 'quit' })
  t.is(await trainer.exit, 0)
})

test.serial('a core that was left in the archive is told by name, with what to set', async (t) => {
  const { archive } = await packaged('left', '**/*.node')
  const shown = `${dirname(archive)}/shown`
  extractAll(archive, shown)
  rmSync(archive)
  cpSync(shown, archive, { recursive: true })
  t.false(
    existsSync(
      join(`${archive}.unpacked`, 'node_modules/posttrain/prebuilds', platform, basename(build.core)),
    ),
  )
  const trainer = new TrainerChild(t, { path: join(archive, 'dist/src/trainer-process.js') })
  trainer.send({ type: 'train', choice: await choiceOf(t, 16) })
  const error = await trainer.next('error')
  t.is(error.code, 'ERR_LIBTORCH_LOAD')
  t.regex(error.message, /app\.asar.*posttrain_core.*asarUnpack/)
  trainer.send({ type: 'quit' })
  t.is(await trainer.exit, 0)
})
