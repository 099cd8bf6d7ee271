import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { call } from '../../lib/addon/call.js'
import { AbortError, ERROR_CODES, PosttrainError } from '../../lib/errors.js'
import { loadHooks } from './hooks.js'

const { core, hooks } = await loadHooks()

const codes = {
  Cancelled: 'ABORT_ERR',
  'core::Error': 'ERR_INVALID_FILE',
  'c10::Error': 'ERR_INTERNAL',
  'c10::ValueError': 'ERR_INVALID_ARGUMENT',
  'c10::IndexError': 'ERR_INTERNAL',
  'c10::TypeError': 'ERR_INTERNAL',
  'c10::NotImplementedError': 'ERR_INTERNAL',
  'c10::LinAlgError': 'ERR_INTERNAL',
  'c10::OutOfMemoryError': 'ERR_OUT_OF_MEMORY',
  "torch's allocator": 'ERR_OUT_OF_MEMORY',
  cuBLAS: 'ERR_OUT_OF_MEMORY',
  'a lost device': 'ERR_DEVICE_LOST',
  'an operator': 'ERR_INTERNAL',
  'std::bad_alloc': 'ERR_OUT_OF_MEMORY',
  'std::length_error': 'ERR_INTERNAL',
  'std::system_error': 'ERR_INTERNAL',
  'std::runtime_error': 'ERR_INTERNAL',
  int: 'ERR_INTERNAL',
}

for (const [kind, code] of Object.entries(codes)) {
  for (const where of ['call', 'job', 'reply'] as const) {
    test(`${kind} in the ${where} is ${code}`, async (t) => {
      const error = await t.throwsAsync(hooks.throwing(where, kind), { code })
      t.false(/Exception raised from|frame #/.test(error!.message), 'no C++ backtrace')
      t.is((await core.info()).libtorch.split('.').length, 3)
    })
  }
  test(`${kind} in a synchronous function is ${code}`, (t) => {
    t.throws(() => hooks.throwingSynchronously(kind), { code })
  })
}

test('each code of the core is one of JavaScript, and is spelled once', (t) => {
  const native = fileURLToPath(new URL('../../../native', import.meta.url))
  const spelled = readdirSync(native, { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(h|cpp)$/.test(path))
    .flatMap((path) =>
      [...readFileSync(join(native, path), 'utf8').matchAll(/"((?:ERR_[A-Z_]+)|(?:[A-Z]+_ERR))"/g)].map(
        ([, code]) => ({ path, code: code! }),
      ),
    )
  t.true(spelled.length > 5)
  const known: string[] = [new AbortError().code, ...ERROR_CODES]
  for (const { path, code } of spelled) {
    t.is(path, join('core', 'error.h'), code)
    t.true(known.includes(code), code)
  }
  t.is(new Set(spelled.map(({ code }) => code)).size, spelled.length)
})

test('a sentence for people: the values, and the knobs to turn', async (t) => {
  await t.throwsAsync(hooks.throwing('job', 'c10::ValueError'), { message: '[test] x must be > 0, got -1' })
  await t.throwsAsync(hooks.throwing('job', 'std::bad_alloc'), {
    message: /batchSize.*maxLength.*activationCheckpointing/,
  })
})

test('call() gives a PosttrainError with the stack of the caller', async (t) => {
  async function whoCalls() {
    await call(core, () => hooks.throwing('job', 'c10::ValueError'))
  }
  const error = await t.throwsAsync(whoCalls(), { instanceOf: PosttrainError, code: 'ERR_INVALID_ARGUMENT' })
  t.regex(error!.stack!, /whoCalls/)
})

test('call() maps an AbortSignal: before, while waiting, while running', async (t) => {
  const reason = new Error('enough')
  const abort = { name: 'AbortError', code: 'ABORT_ERR' }
  const early = await t.throwsAsync(
    call(core, () => t.fail('not started') as never, AbortSignal.abort(reason)),
    abort,
  )
  t.is(early!.cause, reason)
  for (const ms of [0, 30]) {
    const controller = new AbortController()
    const job = call(core, (cancel) => hooks.sleepJob(10_000, cancel), controller.signal)
    setTimeout(() => controller.abort(reason), ms)
    const error = await t.throwsAsync(job, abort)
    t.is(error!.cause, reason)
  }
  const quiet = new AbortController()
  t.is(await call(core, (cancel) => hooks.sleepJob(1, cancel), quiet.signal), undefined)
  quiet.abort()
})

test('wrong handles are typed errors', async (t) => {
  const base = { base: {} }
  for (const bad of [undefined, null, 1, 'x', {}, base, [], () => 0, core.createCancel()] as never[]) {
    await t.throwsAsync(core.dispose(bad), { code: 'ERR_INVALID_ARGUMENT' })
    await t.throwsAsync(core.zeroGrad(bad), { code: 'ERR_INVALID_ARGUMENT' })
    await t.throwsAsync(hooks.useObject(bad, 1), { code: 'ERR_INVALID_ARGUMENT' })
  }
  const object = await hooks.createObject(1)
  await t.throwsAsync(core.zeroGrad(object as never), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /role handle/,
  })
  await t.throwsAsync(hooks.sleepJob(1, object as never), { code: 'ERR_INVALID_ARGUMENT' })
  for (const bad of [undefined, {}, object] as never[]) {
    t.throws(() => core.cancel(bad), { code: 'ERR_INVALID_ARGUMENT' })
  }
  await core.dispose(object as never)
})

test('an exception of a getter of the caller is a rejection with that very exception', async (t) => {
  const thrown = new Error('mine')
  const options = {
    get threads(): number {
      throw thrown
    },
  }
  t.is(await t.throwsAsync(core.configure(options)), thrown)
})
