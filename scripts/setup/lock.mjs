// Lock file that allows one set-up at a time: holds the process id and is refreshed while held.
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { say } from './process.mjs'

const refreshMs = 5_000
const staleMs = 60_000

function abandoned(path) {
  try {
    const [pid, host] = readFileSync(path, 'utf8').split('\n')
    if (Date.now() - statSync(path).mtimeMs > staleMs) return true
    if (host !== hostname() || !pid) return false
    process.kill(Number(pid), 0)
    return false
  } catch (error) {
    return error.code === 'ESRCH'
  }
}

/** Runs `work` while holding the lock file `path`; waits while another live process holds it. */
export async function withLock(path, work) {
  mkdirSync(dirname(path), { recursive: true })
  for (let waited = false; ; waited = true) {
    try {
      const file = openSync(path, 'wx')
      writeSync(file, `${process.pid}\n${hostname()}\n`)
      closeSync(file)
      // Two processes may each have removed the same abandoned lock: the last one to write holds it.
      await sleep(20)
      if (readFileSync(path, 'utf8').startsWith(`${process.pid}\n`)) break
    } catch (error) {
      if (error.code === 'ENOENT') continue
      if (error.code !== 'EEXIST') throw error
      if (abandoned(path)) rmSync(path, { force: true })
      else {
        if (!waited) say('another set-up is running; waiting for it')
        await sleep(300)
      }
    }
  }
  const refresh = setInterval(() => utimesSync(path, new Date(), new Date()), refreshMs)
  const release = () => rmSync(path, { force: true })
  process.once('exit', release)
  try {
    return await work()
  } finally {
    clearInterval(refresh)
    process.removeListener('exit', release)
    release()
  }
}
