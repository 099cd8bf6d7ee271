import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { runNode } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyPolicy } from '../helpers/tiny-policy.js'

/** Kills of all jobs together: 20, or as many as the variable says. */
const KILLS = Number(process.env.POSTTRAIN_KILLS ?? 20)

const child = fileURLToPath(new URL('random-kill-child.js', import.meta.url))
const folder = newFolder()

test.before(async () => {
  await using model = await tinyPolicy(1)
  for (const name of ['start', 'a']) await model.save(join(folder, name))
  await using other = await tinyPolicy(2)
  await other.save(join(folder, 'b'))
  await model.addAdapter('one', { rank: 2, seed: 1 })
  await model.saveAdapter(join(folder, 'adapter'))
})

/** Runs a job to its end, or for so long. */
async function run(job: string, place: string, killAfterMs?: number) {
  const begun = performance.now()
  const { code, signal, stdout, stderr } = await runNode([child, job, place], {
    env: { OMP_NUM_THREADS: '1' },
    ...(killAfterMs !== undefined && { timeoutMs: Math.max(1, Math.round(killAfterMs)) }),
  })
  // A line that the kill cut short is not counted.
  const losses = new Map(
    stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split(' ') as [string, string]),
  )
  return { code, signal, stderr, losses, ms: performance.now() - begun }
}

function place(): string {
  const copy = newFolder()
  cpSync(folder, copy, { recursive: true })
  return copy
}

/** Numbers that spread evenly over [0, 1), the same in each run. */
const spread = (i: number) => (i * 0.618033988749895 + 0.5) % 1

const trained = (at: string) => {
  const result = readdirSync(join(at, 'run')).includes('adapter') ? 'adapter/adapter_model' : 'model/model'
  return readFileSync(join(at, 'run', `${result}.safetensors`))
}

const recipes = ['sft', 'ppo', 'dpo', 'lora'] as const
const share = Math.ceil(KILLS / 6)

for (const recipe of recipes) {
  test.serial(
    `${recipe}: kills at any moment from the start of the process on, and the resume gives the same bits`,
    async (t) => {
      const whole = place()
      const first = await run(recipe, whole)
      t.is(first.code, 0, first.stderr)
      let at = place()
      let ended = 0
      for (let i = 0; i < share; i++) {
        const { code, signal, stderr, losses } = await run(recipe, at, spread(i) * first.ms)
        t.true(signal === 'SIGKILL' || code === 0, stderr)
        for (const [step, loss] of losses) t.is(loss, first.losses.get(step)!, `step ${step}`)
        // Each second one goes on to its end; the others are killed again.
        if (i % 2 === 0 && i < share - 1) continue
        const { code: last, stderr: why } = await run(recipe, at)
        t.is(last, 0, why)
        t.deepEqual(trained(at), trained(whole))
        rmSync(at, { recursive: true })
        at = place()
        ended++
      }
      t.log(`${share} kills, ${ended} resumed to the end`)
    },
  )
}

for (const job of ['save', 'merge']) {
  test.serial(
    `${job} over a folder: kills at any moment leave it whole, the old or the new one`,
    async (t) => {
      const whole = place()
      cpSync(join(whole, 'a'), join(whole, 'target'), { recursive: true })
      const first = await run(job, whole)
      t.is(first.code, 0, first.stderr)
      const known = [join(whole, 'a'), join(whole, 'b'), join(whole, 'target')].map((path) => contentOf(path))
      const at = place()
      cpSync(join(at, 'a'), join(at, 'target'), { recursive: true })
      for (let i = 0; i < share; i++) {
        const { code, signal, stderr } = await run(job, at, (0.3 + 0.7 * spread(i)) * first.ms)
        t.true(signal === 'SIGKILL' || code === 0, stderr)
        // Opening it repairs it where the file system has no exchange.
        await using model = await CausalLM.load(join(at, 'target'))
        t.true(known.includes(contentOf(join(at, 'target'))))
        t.is(model.adapter, null)
      }
      t.is((await run(job, at)).code, 0)
      // What the killed processes left is gone.
      t.deepEqual(
        readdirSync(at).filter((name) => name.startsWith('.')),
        [],
      )
    },
  )
}

/** All files of a folder as one text. */
function contentOf(path: string): string {
  return readdirSync(path)
    .sort()
    .map((name) => `${name}\n${readFileSync(join(path, name), 'base64')}`)
    .join('\n')
}
