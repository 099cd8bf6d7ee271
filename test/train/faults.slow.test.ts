import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { loadCore } from '../../lib/addon/load.js'
import { PosttrainError } from '../../lib/errors.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { sft } from '../../lib/train/sft.js'
import { FileFaults } from '../helpers/file-faults.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { tinyPolicy } from '../helpers/tiny-policy.js'

/** With POSTTRAIN_FAULTS=all each operation fails in each way; else in one of them, by turns. */
const all = process.env.POSTTRAIN_FAULTS === 'all'

const rows = Array.from({ length: 8 }, (_, i) => ({
  prompt: 'abc'.slice(i % 3),
  completion: 'defghi'.slice(i % 5),
}))
const options = {
  data: rows,
  batchSize: 4,
  maxSteps: 3,
  learningRate: 1e-2,
  checkpoints: { everySteps: 1, keep: 1 },
}

test('each file operation of a run fails once: the error is typed, and the resume gives the same bits', async (t) => {
  const faults = new FileFaults()
  faults.install(await loadCore())
  const source = join(newFolder(t), 'model')
  {
    await using model = await tinyPolicy()
    await model.save(source)
  }
  const train = async (output: string) => {
    await using model = await CausalLM.load(source)
    const end = await sft({ ...options, model, output, resume: true }).finish()
    return readFileSync(join(end.model!, 'model.safetensors'))
  }
  const whole = cleanFolder(t)
  faults.arm(whole, 0)
  const expected = await train(whole)
  const operations = faults.count
  t.true(operations > 100, `${operations}`)
  let failed = 0
  for (let at = 1; at <= operations; at++) {
    for (const fault of all ? (['ENOSPC', 'EIO'] as const) : [(['ENOSPC', 'EIO'] as const)[at % 2]!]) {
      const output = cleanFolder(t)
      faults.arm(output, at, fault)
      const error = await train(output).then(
        () => null,
        (cause) => cause,
      )
      const what = `${fault} in operation ${at}, ${faults.harmed}`
      if (error !== null) failed++
      if (error !== null && !(error instanceof PosttrainError)) t.fail(`${what}: ${error.stack}`)
      faults.arm('\0', 0)
      try {
        t.deepEqual(await train(output), expected, what)
      } catch (again) {
        t.fail(`${what} (${error?.message}), then: ${again}`)
      }
      t.false(existsSync(join(output, '.lock')), what)
    }
  }
  t.log(`${operations} operations; ${failed} of the runs ended, the others went on`)
})
