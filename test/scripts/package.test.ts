import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'
import { newFolder } from '../helpers/scratch.js'

const { stageLibtorch } = await import(
  pathToFileURL(join(packageRoot(), 'scripts/package/libtorch.mjs')).href
)

/** A folder that says it is a libtorch of this version, with libraries that need nothing. */
function treeOf(t: ExecutionContext, version: string) {
  const home = newFolder(t)
  const tree = join(home, 'torch')
  mkdirSync(join(tree, 'lib'), { recursive: true })
  writeFileSync(join(tree, 'build-version'), version)
  for (const name of ['libc10.so', 'libtorch_cpu.so', 'libtorch_cuda.so']) {
    writeFileSync(join(tree, 'lib', name), name.padEnd(100))
  }
  return { tree, folder: join(home, 'package'), platform: 'linux-x64' }
}

test('a package of libtorch holds what the core needs, its licenses and the hash of each library', async (t) => {
  const given = treeOf(t, '2.13.0+cpu')
  await stageLibtorch(given)
  const read = (name: string) => readFileSync(join(given.folder, name), 'utf8')
  const manifest = JSON.parse(read('manifest.json'))
  t.deepEqual(Object.keys(manifest.files), ['lib/libc10.so', 'lib/libtorch_cpu.so'])
  const sha256 = createHash('sha256').update('libc10.so'.padEnd(100)).digest('hex')
  t.deepEqual(manifest.files['lib/libc10.so'], { bytes: 100, sha256 })
  t.is(manifest.version, '2.13.0+cpu')
  t.false(existsSync(join(given.folder, 'lib/libtorch_cuda.so')))
  for (const name of ['pytorch', 'libgomp', 'mkl']) t.true(read(`licenses/${name}.txt`).length > 4000)
  const { private: hidden, os, cpu, libc, scripts } = JSON.parse(read('package.json'))
  t.deepEqual([hidden, os, cpu, libc, scripts], [undefined, ['linux'], ['x64'], ['glibc'], undefined])
})

test('a CUDA libtorch is not published, and neither is another version', async (t) => {
  const given = treeOf(t, '2.13.0+cu130')
  await t.throwsAsync(stageLibtorch(given), { message: /cannot be published: it is made for CUDA/ })
  await stageLibtorch({ ...given, local: true })
  t.true(JSON.parse(readFileSync(join(given.folder, 'package.json'), 'utf8')).private)
  await t.throwsAsync(stageLibtorch(treeOf(t, '2.12.1+cpu')), { message: /it is version 2\.12\.1\+cpu/ })
})
