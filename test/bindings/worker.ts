// What the workers of child.ts do.
import { parentPort, workerData } from 'node:worker_threads'
import { loadHooks, wait } from './hooks.js'

const { core, hooks } = await loadHooks()
const ready = () => parentPort!.postMessage('ready')

switch (workerData) {
  case 'busy':
    await hooks.createObject(8 << 20)
    void hooks.busyJob(60_000)
    await wait(20)
    ready()
    break
  case 'stuck':
    void hooks.stuckJob(1500)
    await wait(20)
    ready()
    break
  case 'queue':
    // Behind a job of the main thread.
    void hooks.busyJob(60_000)
    void core.info()
    ready()
    break
  case 'quick':
    // Replies in flight all the time.
    void (async () => {
      for (;;) await Promise.all([hooks.sleepJob(0), core.info(), hooks.createObject(1 << 20)])
    })()
    await wait(20)
    ready()
    break
  case 'exit':
    void hooks.busyJob(60_000)
    await wait(20)
    ready()
    await wait(1)
    process.exit(3)
    break
}
