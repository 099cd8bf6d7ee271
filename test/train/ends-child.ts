// Programs that train and end, in the middle of a step or after it; ends.slow.test.ts looks at how each process ended.
import { isDeepStrictEqual } from 'node:util'
import { Worker } from 'node:worker_threads'
import { train } from './ends-training.js'

function worker(program: string, seed = 0) {
  const started = new Worker(new URL('./ends-worker.js', import.meta.url), { workerData: { program, seed } })
  const message = new Promise<unknown>((done) => started.once('message', done))
  const exit = new Promise<number>((done) => started.once('exit', done))
  return { started, message, exit }
}

const say = (text: string) => process.stdout.write(`${text}\n`)
const forever = (onReady: () => void) => {
  void train(1_000_000, { onStep: (step) => step === 2 && onReady() })
}
const same = (a: unknown, b: unknown) => say(isDeepStrictEqual(a, b) ? 'the same' : `${a} and ${b}`)

const programs: Record<string, () => Promise<unknown> | unknown> = {
  async 'nothing is disposed'() {
    await train(2, { dispose: false })
  },
  async 'the main thread and two workers at once'() {
    const alone = [await train(4, { seed: 0 }), await train(4, { seed: 1 }), await train(4, { seed: 2 })]
    const [one, two] = [worker('losses', 1), worker('losses', 2)]
    same(await Promise.all([train(4, { seed: 0 }), one.message, two.message]), alone)
    await Promise.all([one.exit, two.exit])
  },
  async 'workers that are terminated in mid-step, one after another'() {
    for (let round = 0; round < 4; round++) {
      const { started, message } = worker(round === 3 ? 'generate' : 'forever', round)
      await message
      await new Promise((done) => setTimeout(done, 7 * round))
      await started.terminate()
    }
    same(await train(2), await train(2))
  },
  async 'a worker that leaves in mid-step'() {
    const { started, message, exit } = worker('exit')
    started.on('error', (error) => say(error.message))
    await message
    say(`left with ${await exit}`)
    same(await train(2), await train(2))
  },
  async 'a worker that throws in mid-step'() {
    const { started, message, exit } = worker('throw')
    started.on('error', (error) => say(error.message))
    await message
    say(`left with ${await exit}`)
    same(await train(2), await train(2))
  },
  async 'process.exit beside a worker in mid-step'() {
    await worker('forever').message
    process.exit(7)
  },
  'process.exit in mid-step'() {
    forever(() => setTimeout(() => process.exit(7), 20))
  },
  'an uncaught error in mid-step'() {
    forever(() =>
      setTimeout(() => {
        throw new Error('uncaught on purpose')
      }, 20),
    )
  },
  'a signal in mid-step'() {
    forever(() => say('ready'))
  },
  async 'a signal beside a worker in mid-step'() {
    await worker('forever').message
    say('ready')
  },
}

await programs[process.argv[2]!]!()
