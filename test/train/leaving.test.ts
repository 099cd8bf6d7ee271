import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import type { RewardFunction } from '../../lib/rollout/rewards.js'
import { grpo, rloo } from '../../lib/train/grpo.js'
import { ppo } from '../../lib/train/ppo.js'
import type { Run } from '../../lib/train/run/run.js'
import { sft } from '../../lib/train/sft.js'
import { eventsOf, only } from '../helpers/run.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { tinyPolicy, type Wish, wished, wishes } from '../helpers/tiny-policy.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

// One of them changes the working folder of the process.
const test = (anyTest as TestFn).serial

interface Leaving {
  model: CausalLM
  output: string
  reward: RewardFunction<Wish>
}
const base = { data: wishes, maxNewTokens: 6, batchSize: 4, iterations: 3, seed: 1 }
type AnyRun = Pick<Run, 'finish' | 'stop' | typeof Symbol.asyncDispose>
const recipes: Record<string, (given: Leaving) => AnyRun> = {
  ppo: (given) => ppo({ ...base, ...given }),
  grpo: (given) => grpo({ ...base, ...given, groupSize: 2 }),
  rloo: (given) => rloo({ ...base, ...given, groupSize: 2 }),
}

for (const [name, recipe] of Object.entries(recipes)) {
  test(`${name} that is left while a reward function hangs ends at once and saves nothing`, async (t) => {
    await using model = await tinyPolicy()
    const output = cleanFolder(t)
    let asked = 0
    let signal: AbortSignal | undefined
    let arrive = () => {}
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve
    })
    const reward: RewardFunction<Wish> = (samples, context) => {
      if (++asked === 1) return wished(samples)
      signal = context.signal
      arrive()
      return new Promise(() => undefined)
    }
    const run = recipe({ model, output, reward })
    const finished = run.finish()
    await arrived
    await run[Symbol.asyncDispose]()
    const { reason, steps } = await finished
    t.deepEqual([reason, steps], ['stopped', 1])
    t.true(signal!.aborted)
    t.deepEqual(readdirSync(output).sort(), ['checkpoints', 'config.json', 'metrics.jsonl'])
    t.deepEqual(readdirSync(join(output, 'checkpoints')), [])
    t.notRegex(readFileSync(join(output, 'metrics.jsonl'), 'utf8'), /"end"/)
  })

  test(`${name} may be left by its reward function, which waits for that`, async (t) => {
    await using model = await tinyPolicy()
    const output = cleanFolder(t)
    let run: AnyRun
    const reward: RewardFunction<Wish> = async (samples) => {
      await run[Symbol.asyncDispose]()
      return wished(samples)
    }
    run = recipe({ model, output, reward })
    const { reason, steps } = await run.finish()
    t.deepEqual([reason, steps], ['stopped', 0])
    t.false(existsSync(join(output, '.lock')))
    t.false(existsSync(join(output, 'model')))
  })
}

test('a run writes into one folder though the working folder of the process changes', async (t) => {
  const [here, first, second] = [process.cwd(), newFolder(t), newFolder(t)]
  t.teardown(() => process.chdir(here))
  await using model = await tinyModel()
  process.chdir(first)
  const given = { model, data: instructionRows(8), batchSize: 2, maxSteps: 4, checkpoints: { everySteps: 1 } }
  const run = sft({ ...given, output: './a/../run/' })
  const events: object[] = []
  for await (const event of run) {
    events.push(event)
    if (event.type === 'step' && event.step === 2) process.chdir(second)
    if (event.type === 'checkpoint') t.is(event.path, join('run', 'checkpoints', `step-${event.step}`))
    // As the caller wrote it.
    if (event.type === 'end') t.deepEqual([event.output, event.model], ['./a/../run/', join('run', 'model')])
  }
  t.deepEqual(readdirSync(second), [])
  const whole = ['checkpoints', 'config.json', 'metrics.jsonl', 'model']
  t.deepEqual(readdirSync(join(first, 'run')).sort(), whole)
  await using _ = await CausalLM.load(join(first, 'run', 'model'))
})

test('a run is resumed on the model that it has trained, to which it gave a template', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  const given = { model, data: instructionRows(8), batchSize: 2, output }
  await sft({ ...given, maxSteps: 2 }).finish()
  const { steps } = await sft({ ...given, maxSteps: 3, resume: true }).finish()
  t.is(steps, 3)
})

test('what would be a folder named ~ or file: in the working folder is refused', async (t) => {
  const [here, folder] = [process.cwd(), newFolder(t)]
  t.teardown(() => process.chdir(here))
  process.chdir(folder)
  await using model = await tinyModel()
  const data = instructionRows(4)
  for (const path of ['~', '~/run', 'file:///tmp/run', 'FILE:run']) {
    const refused = { code: 'ERR_INVALID_ARGUMENT', message: /must be a path \(.*home folder written out/ }
    t.throws(() => sft({ model, data, output: path, maxSteps: 1 }), refused)
    await t.throwsAsync(model.save(path), refused)
    await t.throwsAsync(model.saveAdapter(path), refused)
    await t.throwsAsync(CausalLM.load(path), refused)
    const rows = `${path}/rows.jsonl`
    await t.throwsAsync(sft({ model, data: rows, maxSteps: 1 }).finish(), {
      code: 'ERR_DATA',
      message: `${rows} is no path: write out the folder in place of ~ or file:`,
    })
  }
  t.deepEqual(readdirSync(folder), [])
  mkdirSync('~')
  await model.save('./~/model')
  await model.addAdapter('~', { rank: 1 })
  t.deepEqual(readdirSync('~'), ['model'])
})

test('a folder is saved by every spelling of its path', async (t) => {
  const folder = newFolder(t)
  await using model = await tinyModel()
  for (const path of [
    'a/',
    'b//',
    'c/./',
    'd/../e',
    'f.',
    ' g',
    'h\ni',
    'é'.normalize('NFC'),
    'é'.normalize('NFD'),
  ]) {
    await model.save(`${folder}/${path}`)
    await using _ = await CausalLM.load(join(folder, path))
  }
  t.is(readdirSync(folder).length, 9)
})

test('an abort at any event ends the run with the reason as it is, and frees its folder', async (t) => {
  for (const [type, reason] of [
    ['start', 42],
    ['step', null],
    ['evaluation', Symbol('why')],
    ['checkpoint', 'text'],
    ['sample', { why: 1 }],
  ] as const) {
    await using model = await tinyModel()
    const output = cleanFolder(t)
    const abort = new AbortController()
    const run = sft({
      ...{ model, data: instructionRows(20), output, batchSize: 4, maxSteps: 6 },
      ...{ signal: abort.signal, validation: { fraction: 0.2 }, checkpoints: { everySteps: 2 } },
      samples: { prompts: ['1+1=?'], everySteps: 2 },
      evaluation: { everySteps: 2 },
    })
    const error = await t.throwsAsync(
      async () => {
        for await (const event of run) if (event.type === type) abort.abort(reason)
      },
      { name: 'AbortError', code: 'ABORT_ERR' },
    )
    t.is(error!.cause, reason)
    t.false(existsSync(join(output, '.lock')), type)
    const again = await eventsOf(
      sft({ model, data: instructionRows(20), output, overwrite: true, maxSteps: 1 }),
    )
    t.is(only(again, 'end').length, 1)
  }
})
