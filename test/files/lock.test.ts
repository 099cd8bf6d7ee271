import { spawnSync } from 'node:child_process'
import {
  mkdirSync,
  promises,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { threadId, Worker } from 'node:worker_threads'
import test from 'ava'
import { STALE_LOCK_MS, takeLock } from '../../lib/files/lock.js'
import { thisProcess } from '../../lib/files/owner.js'
import { newFolder } from '../helpers/scratch.js'

const refuse = ({ name }: { name: string }) => new Error(`held by ${name}`)

test('a process of another host, boot or PID namespace holds its lock until it is silent, whatever its pid', async (t) => {
  const path = join(newFolder(t), '.lock')
  const own = thisProcess()
  for (const other of [{ host: 'other' }, { boot: 'other' }, { namespace: 'pid:[1]' }]) {
    // The same pid: each container has its PID 1.
    writeFileSync(path, JSON.stringify({ ...own, ...other }))
    const { message } = (await t.throwsAsync(takeLock(path, refuse)))!
    t.regex(message, new RegExp(`held by process ${process.pid} on host .*last seen [01] s ago`))
    await (await takeLock(path, refuse, { anyPlace: true })).release()
    writeFileSync(path, JSON.stringify({ ...own, ...other }))
    const silent = (Date.now() - STALE_LOCK_MS) / 1000 - 1
    utimesSync(path, silent, silent)
    await (await takeLock(path, refuse)).release()
    t.deepEqual(readdirSync(join(path, '..')), [])
  }
})

test('a pid that was given to another process since does not hold the lock', async (t) => {
  const path = join(newFolder(t), '.lock')
  const parent = { ...thisProcess(), pid: process.ppid, start: '' }
  writeFileSync(path, JSON.stringify(parent))
  for (const anyPlace of [false, true])
    await t.throwsAsync(takeLock(path, refuse, { anyPlace }), { message: `held by process ${process.ppid}` })
  if (process.platform === 'linux') {
    writeFileSync(path, JSON.stringify({ ...parent, start: '1' }))
    await (await takeLock(path, refuse)).release()
  }
  for (const torn of ['', '{', '[]', '"a"', '{"pid":1}', '-1', '0']) {
    writeFileSync(path, torn)
    await (await takeLock(path, refuse)).release()
  }
  t.deepEqual(readdirSync(join(path, '..')), [])
})

test('a holder notices that its lock was taken, and takes it again if somebody removed it', async (t) => {
  const path = join(newFolder(t), '.lock')
  const lock = await takeLock(path, refuse)
  t.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { ...thisProcess(), thread: threadId })
  t.true(await lock.keep())
  rmSync(path)
  t.true(await lock.keep())
  t.true(statSync(path).isFile())
  rmSync(path)
  writeFileSync(path, JSON.stringify({ ...thisProcess(), namespace: 'pid:[1]' }))
  t.false(await lock.keep())
  await lock.release()
  // Not its own any more.
  t.true(statSync(path).isFile())
})

test('a folder that has two names has one lock, and a link to nothing is no lock', async (t) => {
  const parent = newFolder(t)
  mkdirSync(join(parent, 'real'))
  symlinkSync('real', join(parent, 'link'))
  const lock = await takeLock(join(parent, 'real/.lock'), refuse)
  await t.throwsAsync(takeLock(join(parent, 'link/.lock'), refuse), { message: /^held by process/ })
  await lock.release()
  symlinkSync('nothing', join(parent, '.lock'))
  await t.throwsAsync(takeLock(join(parent, '.lock'), refuse), { message: /is not a file: remove it/ })
})

test('another thread of this process holds its lock until it is silent', async (t) => {
  const path = join(newFolder(t), '.lock')
  const module = new URL('../../lib/files/lock.js', import.meta.url).href
  const program = `
    import('node:worker_threads').then(async ({ parentPort, workerData: [module, path] }) => {
      const { takeLock } = await import(module)
      await takeLock(path, ({ name }) => new Error(name))
      parentPort.postMessage('taken')
      setInterval(() => {}, 1000)
    })`
  const worker = new Worker(program, { eval: true, workerData: [module, path] })
  await new Promise((resolve) => worker.once('message', resolve))
  await t.throwsAsync(takeLock(path, refuse), {
    message: /held by another thread of process \d+ \(last seen/,
  })
  await worker.terminate()
  const silent = (Date.now() - STALE_LOCK_MS) / 1000 - 1
  utimesSync(path, silent, silent)
  await (await takeLock(path, refuse)).release()
})

test.serial('where a file system has no links the lock is taken all the same, by one', async (t) => {
  const path = join(newFolder(t), '.lock')
  const { link: real, rename } = promises
  promises.link = async () => {
    throw Object.assign(new Error('EPERM: operation not permitted, link'), { code: 'EPERM' })
  }
  syncBuiltinESMExports()
  try {
    const lock = await takeLock(path, refuse)
    t.true(await lock.keep())
    await lock.release()
    t.deepEqual(readdirSync(join(path, '..')), [])
    writeFileSync(path, JSON.stringify({ ...thisProcess(), host: 'other' }))
    await t.throwsAsync(takeLock(path, refuse), { message: /on host other/ })
    await (await takeLock(path, refuse, { anyPlace: true })).release()
    t.deepEqual(readdirSync(join(path, '..')), [])
    // Two others take the lock of a dead process: one before it is renamed, one behind that.
    writeFileSync(path, JSON.stringify({ ...thisProcess(), host: 'dead' }))
    utimesSync(path, 1, 1)
    const [second, third] = ['second', 'third'].map((host) => JSON.stringify({ ...thisProcess(), host })) as [
      string,
      string,
    ]
    promises.rename = async (from, to) => {
      promises.rename = rename
      syncBuiltinESMExports()
      writeFileSync(path, second)
      await rename(from, to)
      writeFileSync(path, third)
    }
    syncBuiltinESMExports()
    await t.throwsAsync(takeLock(path, refuse), { message: /third/ })
    t.is(readFileSync(path, 'utf8'), third)
  } finally {
    promises.link = real
    promises.rename = rename
    syncBuiltinESMExports()
  }
})

const unshares = spawnSync('unshare', ['-Urpf', '--mount-proc', 'true']).status === 0
const inContainers = unshares ? test : test.skip

inContainers('of two containers, each with its PID 1, one takes the lock', async (t) => {
  const folder = newFolder(t)
  mkdirSync(join(folder, 'locks'))
  const path = join(folder, 'locks/.lock')
  const module = fileURLToPath(new URL('../../lib/files/lock.js', import.meta.url))
  const program = `
    const { takeLock } = await import(${JSON.stringify(module)})
    await takeLock(${JSON.stringify(path)}, ({ name }) => new Error(name))
    console.log(process.pid)
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), Number(process.argv[1]))
    setInterval(() => {}, 1000)`
  const contained = [
    '-Urpf',
    '--mount-proc',
    '--kill-child',
    process.execPath,
    '--input-type=module',
    '-e',
    program,
  ]
  const { spawn } = await import('node:child_process')
  const first = spawn('unshare', [...contained, '60000'])
  t.teardown(() => first.kill('SIGKILL'))
  const pid = await new Promise((resolve) =>
    first.stdout.once('data', (text) => resolve(String(text).trim())),
  )
  t.is(pid, '1')
  const { status, stderr } = spawnSync('unshare', [...contained, '0'], { encoding: 'utf8' })
  t.not(status, 0)
  t.regex(stderr, /process 1 on host .*another host or container/)
})
