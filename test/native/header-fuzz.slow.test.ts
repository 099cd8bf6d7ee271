import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { findLibtorch } from '../../lib/libtorch/find/libtorch.js'
import { runChild } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
/** 1,000,000 in a longer run. */
const COUNT = process.env.POSTTRAIN_FUZZ_HEADERS ?? '50000'

test(`the parser of safetensors headers takes ${COUNT} mutants without an error of memory or arithmetic`, async (t) => {
  t.timeout(600_000)
  const folder = findLibtorch().folder
  const include = join(folder, 'include')
  if (!existsSync(join(include, 'c10'))) return void t.pass('skipped: this libtorch has no headers')
  const program = join(newFolder(t), 'header-fuzz')
  const libraries = join(folder, 'lib')
  const compiled = await runChild('g++', [
    '-std=c++20',
    '-O1',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
    `-I${join(root, 'native')}`,
    '-isystem',
    include,
    join(root, 'test/native/header-fuzz.cpp'),
    join(root, 'native/core/crc32c.cpp'),
    join(root, 'native/core/tensor_header.cpp'),
    `-L${libraries}`,
    '-lc10',
    `-Wl,-rpath,${libraries}`,
    '-o',
    program,
  ])
  t.is(compiled.code, 0, compiled.stderr)
  const { code, stdout, stderr } = await runChild(program, [COUNT, '1'])
  t.is(code, 0, stderr.slice(0, 4_000))
  const [, taken, refused] = /^(\d+) taken, (\d+) refused$/m.exec(stdout) ?? []
  t.is(Number(taken) + Number(refused), Number(COUNT))
  // Both sides of the parser are reached.
  t.true(Number(taken) > Number(COUNT) / 10 && Number(refused) > Number(COUNT) / 10, stdout)
})
