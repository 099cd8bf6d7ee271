import { createRequire } from 'node:module'
import { join } from 'node:path'
import test from 'ava'
import { findBuild } from '../../lib/addon/load.js'
import { findLibtorch } from '../../lib/libtorch/find/libtorch.js'

interface Options {
  libtorch: string
  core: string
  cuda: string
}
interface Stub {
  open(options: Options): { info(): Promise<{ libtorch: string }>; shutdown(ms: number): boolean }
  probe(options: { libtorch: string; cuda: string }): unknown
  state(): { version: string; cuda: boolean; cudaError: string }
}

const build = findBuild()
const stub: Stub = createRequire(import.meta.url)(build.stub)
const good: Options = { libtorch: findLibtorch().libraries, core: build.core, cuda: 'off' }

test.serial('arguments are checked before anything is opened', (t) => {
  const bad = [
    undefined,
    {},
    { ...good, libtorch: 1 },
    { ...good, libtorch: 'lib' },
    { ...good, libtorch: '' },
    { ...good, core: 'core.so' },
    { ...good, cuda: 'yes' },
  ]
  for (const options of bad) {
    t.throws(() => stub.open(options as Options), { code: 'ERR_INVALID_ARGUMENT' })
  }
  t.throws(() => stub.probe({ libtorch: 'lib', cuda: 'off' }), { code: 'ERR_INVALID_ARGUMENT' })
  t.is(stub.state().version, '')
})

test.serial('what cannot be opened is named', (t) => {
  t.throws(() => stub.open({ ...good, libtorch: '/nowhere' }), {
    code: 'ERR_LIBTORCH_LOAD',
    message: /\/nowhere\/libc10\.so/,
  })
  t.throws(() => stub.open({ ...good, core: '/nowhere/core.so' }), {
    code: 'ERR_LIBTORCH_LOAD',
    message: /\/nowhere\/core\.so/,
  })
})

test.serial('after a failure the same libtorch still opens; another is refused', async (t) => {
  t.throws(() => stub.open({ ...good, libtorch: '/nowhere' }), {
    code: 'ERR_LIBTORCH_LOAD',
    message: /already opened/,
  })
  const core = stub.open(good)
  t.is((await core.info()).libtorch, stub.state().version)
  t.throws(() => stub.open({ ...good, core: join(good.libtorch, 'libc10.so') }), {
    message: /another process/,
  })
})

test.serial('opened twice in one environment it is the same engine', async (t) => {
  const [first, second] = [stub.open(good), stub.open(good)]
  t.deepEqual(await first.info(), await second.info())
  t.true(first.shutdown(2000))
  await t.throwsAsync(second.info(), { code: 'ERR_DISPOSED', message: /exiting/ })
  t.true(second.shutdown(2000))
})
