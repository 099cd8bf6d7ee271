import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type Ended, runNode } from '../helpers/child.js'

/** Runs a program of child.ts; with `kill` it gets the signal when it is ready. */
async function run(program: string, kill?: NodeJS.Signals): Promise<Ended & { ms: number }> {
  const path = fileURLToPath(new URL('./child.js', import.meta.url))
  const start = performance.now()
  const ended = await runNode([path, program], {
    timeoutMs: 60_000,
    env: { OMP_NUM_THREADS: '1' },
    onOutput: (stdout, child) => {
      if (kill !== undefined && stdout.includes('ready')) child.kill(kill)
    },
  })
  return { ...ended, ms: performance.now() - start }
}

/** Code, and what must be in stdout or stderr. An abort would be code null, signal SIGABRT or code 134. */
const ends: Record<string, { code: number; text?: string }> = {
  idle: { code: 0 },
  'process.exit': { code: 7 },
  'exit code': { code: 9 },
  stuck: { code: 7 },
  uncaught: { code: 1, text: 'uncaught on purpose' },
  'unhandled rejection': { code: 1, text: 'unhandled on purpose' },
  'exit in a reply': { code: 7 },
  'worker alone': { code: 0, text: 'terminated' },
  'worker, then exit': { code: 7 },
  'stuck worker, then exit': { code: 7 },
  'the end of a worker awaits its job': { code: 0, text: 'the queue is free' },
  'worker and main': { code: 0, text: 'mine ended' },
  'worker exits by itself': { code: 0, text: 'main works on' },
  'main exits with a worker': { code: 7 },
  'many workers': { code: 0, text: 'terminated' },
}

for (const [program, { code, text }] of Object.entries(ends)) {
  test.serial(`${program}: ends with code ${code}, soon`, async (t) => {
    const end = await run(program)
    t.is(end.signal, null, end.stderr)
    t.is(end.code, code, end.stderr)
    if (text !== undefined) t.true((end.stdout + end.stderr).includes(text), end.stdout + end.stderr)
    t.true(end.ms < 20_000, `${end.ms} ms`)
  })
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
  test.serial(`${signal} in a job ends the process as it does any program`, async (t) => {
    const end = await run('signal', signal)
    t.deepEqual({ code: end.code, signal: end.signal }, { code: null, signal })
  })
}
