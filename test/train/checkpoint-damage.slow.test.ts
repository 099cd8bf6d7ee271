import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { PosttrainError } from '../../lib/errors.js'
import { hash32 } from '../../lib/random.js'
import { policyFault } from '../../lib/train/policy/state.js'
import { ppo } from '../../lib/train/ppo.js'
import { newestCheckpoint } from '../../lib/train/run/checkpoint.js'
import { sft } from '../../lib/train/sft.js'
import { trainingFault } from '../../lib/train/supervised/state.js'
import { isCursorOf } from '../../lib/train/supervised/steps.js'
import { readManifestOf, resealManifest } from '../helpers/manifests.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { tinyPolicy, wished, wishes } from '../helpers/tiny-policy.js'

/** Mutants of each state: 2,000 together, or as many as the variable says. */
const MUTANTS = Number(process.env.POSTTRAIN_MUTANTS ?? 2000) / 2

const supervised = {
  data: Array.from({ length: 12 }, (_, i) => ({
    prompt: 'abc'.slice(i % 3),
    completion: 'defghi'.slice(i % 5),
  })),
  batchSize: 4,
  maxSteps: 4,
  checkpoints: { everySteps: 1, keep: 1 },
} as const
const policy = { data: wishes, reward: wished, batchSize: 2, maxNewTokens: 4, iterations: 3 } as const

/** What a resume of each run finds wrong with a state. */
const loader = { batchesIn: () => 3 }
const faults = {
  sft: (state: unknown, step: number) => trainingFault(state, step, (...at) => isCursorOf(...at, loader, 1)),
  ppo: (state: unknown, step: number) => policyFault(state, step, policy.batchSize),
}

/** Runs of two steps, stopped, by recipe. */
const folders = { sft: join(newFolder(), 'sft'), ppo: join(newFolder(), 'ppo') }

test.before(async () => {
  await using model = await tinyPolicy()
  for await (const event of sft({ ...supervised, model, output: folders.sft }))
    if (event.type === 'checkpoint' && event.step === 2) break
  await using actor = await tinyPolicy()
  const checkpoints = { everySteps: 1, keep: 1 }
  for await (const event of ppo({ ...policy, model: actor, output: folders.ppo, checkpoints }))
    if (event.type === 'checkpoint' && event.step === 2) break
})

const find = (name: 'sft' | 'ppo') => newestCheckpoint(join(folders[name], 'checkpoints'), faults[name])

test.serial('1,000 single-bit flips in the files of a checkpoint are noticed', async (t) => {
  for (const name of ['sft', 'ppo'] as const) {
    t.like(await find(name), { damaged: [] })
    const checkpoint = join(folders[name], 'checkpoints/step-2')
    const files = readdirSync(checkpoint)
    let unnoticed = 0
    for (let i = 0; i < 500; i++) {
      const path = join(checkpoint, files[i % files.length]!)
      const bytes = readFileSync(path)
      const [at, bit] = [hash32(1, i, 0) % bytes.length, 1 << (hash32(1, i, 1) % 8)]
      bytes[at]! ^= bit
      writeFileSync(path, bytes)
      const { code } = (await find(name).then(
        () => ({ code: null }),
        (error) => error,
      )) as { code: string | null }
      if (code !== 'ERR_INVALID_FILE') {
        unnoticed++
        t.log(`byte ${at} bit ${bit} of ${path}: ${code}`)
      }
      bytes[at]! ^= bit
      writeFileSync(path, bytes)
    }
    t.is(unnoticed, 0)
    t.like(await find(name), { damaged: [] })
  }
})

type Json = Record<string, unknown>

const HOSTILE: readonly (() => unknown)[] = [
  () => null,
  () => -1,
  () => 0,
  () => 1.5,
  () => 2 ** 31 - 1,
  () => 2 ** 53,
  () => 1e300,
  () => '6',
  () => '',
  () => 'x'.repeat(10_000),
  () => true,
  () => [],
  () => [[]],
  () => ({}),
  () => ({ toString: 1, valueOf: null, length: -1 }),
  () => Array.from({ length: 500 }).reduce((inner) => [inner], null),
  () => Array.from({ length: 3000 }, (_, i) => i),
]

/** A state with one to three changes: a value replaced, removed, added, moved, or a number a little off. */
function mutant(state: Json, seed: number): Json {
  const changed = structuredClone(state)
  for (let n = 0; n <= hash32(seed, 0, 0) % 3; n++) {
    const places: [Json, string][] = []
    const visit = (at: Json) => {
      for (const [key, value] of Object.entries(at)) {
        places.push([at, key])
        if (typeof value === 'object' && value !== null) visit(value as Json)
      }
    }
    visit(changed)
    if (places.length === 0) return changed
    const [at, key] = places[hash32(seed, n, 1) % places.length]!
    const [other, otherKey] = places[hash32(seed, n, 2) % places.length]!
    const kind = hash32(seed, n, 3) % 6
    if (kind < 2) at[key] = HOSTILE[hash32(seed, n, 4) % HOSTILE.length]!()
    else if (kind === 2) delete at[key]
    else if (kind === 3) at[`${key}_`] = at[key]
    else if (kind === 4) at[key] = structuredClone(other[otherKey])
    else if (typeof at[key] === 'number') at[key] += (hash32(seed, n, 5) % 5) - 2
  }
  return changed
}

for (const name of ['sft', 'ppo'] as const) {
  test.serial(
    `mutants of the state of ${name} are damage, or resume: no crash, no hang, no other error`,
    async (t) => {
      const checkpoint = join(folders[name], 'checkpoints/step-2')
      const manifest = readManifestOf(checkpoint)
      const taken: Json[] = []
      let slowest = 0
      for (let i = 0; i < MUTANTS; i++) {
        const state = mutant(manifest.state, i)
        resealManifest(checkpoint, { ...manifest, state })
        const begun = performance.now()
        try {
          if ((await find(name)) !== null) taken.push(state)
        } catch (error) {
          if (!(error instanceof PosttrainError)) t.fail(`mutant ${i}: ${error}`)
        }
        slowest = Math.max(slowest, performance.now() - begun)
      }
      t.true(slowest < 2000, `${slowest} ms`)
      t.true(taken.length < MUTANTS / 2, `${taken.length} taken`)
      // What is taken must be fit to train on.
      const tried = taken.filter((_, i) => i % Math.ceil(taken.length / 20) === 0)
      for (const state of tried) {
        resealManifest(checkpoint, { ...manifest, state })
        const output = cleanFolder(t)
        cpSync(folders[name], output, { recursive: true })
        try {
          if (name === 'sft') {
            await using model = await tinyPolicy()
            await sft({ ...supervised, model, output, resume: true }).finish()
          } else {
            await using model = await tinyPolicy()
            await ppo({ ...policy, model, output, resume: true }).finish()
          }
        } catch (error) {
          if (!(error instanceof PosttrainError)) t.fail(`${JSON.stringify(state)}: ${error}`)
        }
      }
      resealManifest(checkpoint, manifest)
      t.log(
        `${MUTANTS} mutants: ${taken.length} with a state that a run can have; slowest ${slowest.toFixed(0)} ms`,
      )
    },
  )
}
