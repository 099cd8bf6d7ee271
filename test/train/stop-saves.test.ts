import test from 'ava'
import { sft } from '../../lib/train/sft.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

test('a stopped run saves before it evaluates or samples, and its resume does what was left', async (t) => {
  const output = cleanFolder(t)
  const options = {
    data: instructionRows(40),
    validation: instructionRows(4, 50),
    evaluation: { everySteps: 1 },
    samples: { prompts: ['1+1=?'], everySteps: 1, maxNewTokens: 4 },
    maxSteps: 3,
    batchSize: 4,
    output,
  }
  const stopAt = async (at: 'step' | 'evaluation') => {
    await using model = await tinyModel()
    const run = sft({ ...options, model, resume: at === 'evaluation' })
    const types: string[] = []
    for await (const { type } of run) {
      types.push(type)
      if (type === at) run.stop()
    }
    t.is((await run.finish()).reason, 'stopped')
    return types
  }
  t.deepEqual(await stopAt('step'), ['start', 'step', 'checkpoint', 'end'])
  // The evaluation that was left comes first; the samples after it are cut short again.
  t.deepEqual(await stopAt('evaluation'), ['start', 'evaluation', 'checkpoint', 'end'])
  await using model = await tinyModel()
  const run = sft({ ...options, model, resume: true })
  const types: string[] = []
  for await (const { type } of run) types.push(type)
  t.deepEqual(types.slice(0, 5), ['start', 'evaluation', 'sample', 'checkpoint', 'step'])
  t.like(await run.finish(), { reason: 'completed', steps: 3 })
})
