// Programs that end in the middle of a job; exit.slow.test.ts runs each in a process of its own and looks at how it ended.
import { Worker } from 'node:worker_threads'
import { loadHooks, wait } from './hooks.js'

const worker = (program: string) => {
  const started = new Worker(new URL('./worker.js', import.meta.url), { workerData: program })
  const ready = new Promise((done) => started.once('message', done))
  return { started, ready }
}

const programs: Record<string, () => Promise<unknown> | unknown> = {
  async idle() {
    const { hooks } = await loadHooks()
    await hooks.busyJob(20)
  },
  async 'process.exit'() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    void hooks.busyJob(60_000)
    await wait(50)
    process.exit(7)
  },
  async 'exit code'() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    process.exitCode = 9
    await wait(50)
    process.exit()
  },
  async stuck() {
    const { hooks } = await loadHooks()
    void hooks.stuckJob(60_000)
    await wait(50)
    process.exit(7)
  },
  async uncaught() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    await wait(50)
    setImmediate(() => {
      throw new Error('uncaught on purpose')
    })
  },
  async 'unhandled rejection'() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    await wait(50)
    void Promise.reject(new Error('unhandled on purpose'))
  },
  async signal() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    await wait(50)
    process.stdout.write('ready\n')
  },
  async 'exit in a reply'() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    process.on('exit', () => {
      hooks.sleepJob(1).catch(() => {})
      hooks.throwing('job', 'int').catch(() => {})
    })
    await wait(20)
    process.exit(7)
  },
  async 'worker alone'() {
    const { started, ready } = worker('busy')
    await ready
    await started.terminate()
    process.stdout.write('terminated\n')
  },
  async 'worker, then exit'() {
    await worker('busy').ready
    process.exit(7)
  },
  async 'stuck worker, then exit'() {
    await worker('stuck').ready
    process.exit(7)
  },
  async 'the end of a worker awaits its job'() {
    const { hooks } = await loadHooks()
    const { started, ready } = worker('stuck')
    await ready
    await started.terminate()
    const start = performance.now()
    await hooks.sleepJob(0)
    process.stdout.write(performance.now() - start < 700 ? 'the queue is free' : 'the job still ran')
  },
  async 'worker and main'() {
    const { hooks } = await loadHooks()
    const mine = hooks.busyJob(300)
    const { started, ready } = worker('queue')
    await ready
    await started.terminate()
    await mine
    await hooks.busyJob(5)
    process.stdout.write('mine ended\n')
  },
  async 'worker exits by itself'() {
    const { hooks } = await loadHooks()
    const { started, ready } = worker('exit')
    await ready
    await new Promise((done) => started.once('exit', done))
    await hooks.busyJob(5)
    process.stdout.write('main works on\n')
  },
  async 'main exits with a worker'() {
    const { hooks } = await loadHooks()
    void hooks.busyJob(60_000)
    await worker('queue').ready
    process.exit(7)
  },
  async 'many workers'() {
    for (let round = 0; round < 12; round++) {
      const { started, ready } = worker(round % 2 === 0 ? 'busy' : 'quick')
      await ready
      await wait(round)
      await started.terminate()
    }
    process.stdout.write('terminated\n')
  },
}

await programs[process.argv[2]!]!()
