import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { loadCore } from '../../lib/addon/load.js'
import { PosttrainError } from '../../lib/errors.js'
import { runNode } from '../helpers/child.js'
import { type Fault, FileFaults } from '../helpers/file-faults.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { tinyPolicy } from '../helpers/tiny-policy.js'
import { trainShort } from './faults-training.js'

/** With POSTTRAIN_FAULTS=all each operation fails in each way; else in one of them, by turns, and few kill. */
const all = process.env.POSTTRAIN_FAULTS === 'all'

/** Kills without it. */
const KILLS = 12
const KINDS = ['kill before', 'kill behind'] as const

const child = fileURLToPath(new URL('faults-child.js', import.meta.url))
const source = join(newFolder(), 'model')

test.before(async () => {
  await using model = await tinyPolicy()
  await model.save(source)
})

test.serial(
  'a kill -9 before and behind each file operation of a run: the resume gives the same bits',
  async (t) => {
    const whole = cleanFolder(t)
    const run = async (output: string, at: number, fault: Fault) =>
      await runNode([child, source, output, `${at}`, fault], { env: { OMP_NUM_THREADS: '1' } })
    const { stdout, stderr } = await run(whole, 0, 'kill before')
    const operations = Number(stdout)
    t.true(operations > 100, stderr)
    const expected = readFileSync(join(whole, 'model', 'model.safetensors'))
    t.notDeepEqual(expected, readFileSync(join(whole, 'checkpoints', 'step-3', 'model.safetensors')))
    const places = Array.from({ length: operations }, (_, i) => i + 1)
    const some = places.filter((at) => at % Math.ceil(operations / KILLS) === 0)
    for (const [i, at] of (all ? places : some).entries()) {
      for (const fault of all ? KINDS : [KINDS[i % 2]!]) {
        const output = cleanFolder(t)
        const what = `${fault} operation ${at}`
        const { signal, stderr: why } = await run(output, at, fault)
        t.is(signal, 'SIGKILL', `${what}: ${why}`)
        try {
          t.deepEqual((await trainShort(source, output)).model, expected, what)
        } catch (error) {
          t.fail(`${what}: ${error}`)
        }
        const left = readdirSync(output, { recursive: true, encoding: 'utf8' })
        t.deepEqual(
          left.filter((path) => basename(path).startsWith('.')),
          [],
          what,
        )
        t.deepEqual(left.sort(), readdirSync(whole, { recursive: true, encoding: 'utf8' }).sort(), what)
      }
    }
  },
)

test.serial(
  'each file operation of a run fails once: the error is typed, and the resume gives the same bits',
  async (t) => {
    const faults = new FileFaults()
    faults.install(await loadCore())
    const whole = cleanFolder(t)
    faults.arm(whole, 0)
    const { model, modelStep } = await trainShort(source, whole)
    t.is(modelStep, 1)
    // A fault in the checkpoint of the best step leaves the second best.
    const expected = new Map([[1, model]])
    const operations = faults.count
    t.true(operations > 100, `${operations}`)
    let [runs, failed, second] = [0, 0, 0]
    for (let at = 1; at <= operations; at++) {
      for (const fault of all ? (['ENOSPC', 'EIO'] as const) : [(['ENOSPC', 'EIO'] as const)[at % 2]!]) {
        const output = cleanFolder(t)
        runs++
        faults.arm(output, at, fault)
        const error = await trainShort(source, output).then(
          () => null,
          (cause) => cause,
        )
        const what = `${fault} in operation ${at}, ${faults.harmed}`
        if (error !== null) failed++
        if (error !== null && !(error instanceof PosttrainError)) t.fail(`${what}: ${error.stack}`)
        faults.arm('\0', 0)
        try {
          const resumed = await trainShort(source, output)
          const step = resumed.modelStep!
          if (step !== 1) t.is(step, 2, what)
          if (!expected.has(step)) expected.set(step, resumed.model)
          t.true(resumed.model.equals(expected.get(step)!), what)
          if (step === 2) second++
        } catch (again) {
          t.fail(`${what} (${error?.message}), then: ${again}`)
        }
        t.false(existsSync(join(output, '.lock')), what)
      }
    }
    t.true(second < runs / 4, `${second} of ${runs}`)
    t.log(
      `${operations} operations; ${failed} of ${runs} runs ended, the others went on, ${second} without the checkpoint of the best`,
    )
  },
)
