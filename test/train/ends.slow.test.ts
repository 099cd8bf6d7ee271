import { fileURLToPath } from 'node:url'
import test from 'ava'
import { sft } from '../../lib/train/sft.js'
import { type Ended, runNode } from '../helpers/child.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

/** Runs a program of ends-child.ts; with `kill` it gets the signal when it is ready. */
function run(program: string, kill?: NodeJS.Signals): Promise<Ended> {
  const path = fileURLToPath(new URL('./ends-child.js', import.meta.url))
  return runNode([path, program], {
    timeoutMs: 120_000,
    env: { OMP_NUM_THREADS: '1' },
    onOutput: (stdout, child) => {
      if (kill !== undefined && stdout.includes('ready')) child.kill(kill)
    },
  })
}

/** Code, and what has to be told. An abort would be signal SIGABRT, a hang SIGKILL. */
const ends: Record<string, { code: number; told?: RegExp }> = {
  'nothing is disposed': { code: 0 },
  'the main thread and two workers at once': { code: 0, told: /^the same\n$/ },
  'workers that are terminated in mid-step, one after another': { code: 0, told: /^the same\n$/ },
  'a worker that leaves in mid-step': { code: 0, told: /^left with 3\nthe same\n$/ },
  'a worker that throws in mid-step': {
    code: 0,
    told: /^uncaught in the worker\nleft with 1\nthe same\n$/,
  },
  'process.exit beside a worker in mid-step': { code: 7 },
  'process.exit in mid-step': { code: 7 },
  'an uncaught error in mid-step': { code: 1, told: /uncaught on purpose/ },
}

for (const [program, { code, told }] of Object.entries(ends)) {
  test.serial(`${program}: ends with code ${code}`, async (t) => {
    const end = await run(program)
    t.is(end.signal, null, end.stderr)
    t.is(end.code, code, end.stderr)
    if (told !== undefined) t.regex(code === 0 ? end.stdout : end.stderr, told, end.stderr)
  })
}

for (const [program, signal] of [
  ['a signal in mid-step', 'SIGINT'],
  ['a signal in mid-step', 'SIGTERM'],
  ['a signal beside a worker in mid-step', 'SIGTERM'],
] as const) {
  test.serial(`${program}, ${signal}: ends the process as it does any program`, async (t) => {
    const end = await run(program, signal)
    t.deepEqual({ code: end.code, signal: end.signal }, { code: null, signal })
  })
}

test.serial(
  'two models at once, and the same ones again: the losses of each are those it has alone',
  async (t) => {
    const options = {
      template: 'plain',
      maxLength: 64,
      learningRate: 1e-3,
      batchSize: 8,
      maxSteps: 6,
    } as const
    const losses = async (seed: number) => {
      await using model = await tinyModel(seed)
      const told: number[] = []
      for await (const event of sft({ ...options, model, data: instructionRows(32, seed) }))
        if (event.type === 'step') told.push(event.loss)
      return told
    }
    const alone = [await losses(1), await losses(2)]
    t.notDeepEqual(alone[0], alone[1])
    t.deepEqual(await Promise.all([losses(1), losses(2)]), alone)
    t.deepEqual(await Promise.all([losses(2), losses(1)]), alone.toReversed())
  },
)
