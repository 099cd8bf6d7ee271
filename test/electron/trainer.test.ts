import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { isCommand } from '../../examples/electron/src/protocol.js'
import { findLibtorch } from '../../lib/libtorch/find/libtorch.js'
import { choiceOf, TrainerChild } from './trainer-child.js'

const preload = (source: string) => ['--import', `data:text/javascript,${encodeURIComponent(source)}`]

test.serial('the trainer trains, reports every loss, responds, and exits with 0', async (t) => {
  const trainer = new TrainerChild(t)
  await trainer.next('ready')
  const choice = await choiceOf(t, 80, { epochs: 3 })
  trainer.send({ type: 'train', choice })
  const { totalSteps, rows } = await trainer.next('start')
  t.is(rows, 72)
  t.is(totalSteps, 27)
  const end = await trainer.next('end')
  t.deepEqual(end, { type: 'end', reason: 'completed', steps: 27, model: join(choice.output, 'model') })
  t.true(existsSync(join(choice.output, 'model/model.safetensors')))
  const losses = trainer.of('step').map(({ loss }) => loss)
  t.is(losses.length, 27)
  t.true(losses.at(-1)! < losses[0]! - 0.5, losses.join(' '))
  t.is(trainer.of('evaluation').length, 3)

  trainer.send({ type: 'chat', messages: [{ role: 'user', content: '3+3=?' }] })
  await trainer.next('answered')
  t.true(trainer.of('piece').length > 0)

  trainer.send({ type: 'quit' })
  t.is(await trainer.exit, 0)
})

test.serial(
  'an abort in mid-step leaves that step whole and saved: resuming gives the losses of an uninterrupted run',
  async (t) => {
    const trainer = new TrainerChild(t)
    const whole = await choiceOf(t, 512, { batchSize: 64 })
    trainer.send({ type: 'train', choice: whole })
    await trainer.next('end')
    const losses = trainer.of('step').map(({ loss }) => loss)

    const cut = await choiceOf(t, 512, { batchSize: 64 })
    const from = trainer.reports.length
    trainer.send({ type: 'train', choice: cut })
    // The next step is under way when its predecessor is told.
    await trainer.next('step')
    await trainer.next('step')
    trainer.send({ type: 'abort', now: false })
    const end = await trainer.next('end')
    t.is(end.reason, 'aborted')
    t.true(end.steps! >= 2 && end.steps! < losses.length, `${end.steps}`)
    const checkpoint = trainer.of('checkpoint').at(-1)!
    t.is(checkpoint.step, end.steps!)
    t.true(existsSync(checkpoint.path))
    t.true(existsSync(join(end.model!, 'model.safetensors')))

    trainer.send({ type: 'train', choice: { ...cut, resume: true } })
    t.is((await trainer.next('start')).step, end.steps!)
    t.is((await trainer.next('end')).reason, 'completed')
    const again = trainer.reports
      .slice(from)
      .flatMap((report) => (report.type === 'step' ? [report.loss] : []))
    t.deepEqual(again, losses)
    trainer.send({ type: 'quit' })
    t.is(await trainer.exit, 0)
  },
)

test.serial(
  'an abort at once drops the step; the last checkpoint stays, and the trainer goes on',
  async (t) => {
    const trainer = new TrainerChild(t)
    const choice = await choiceOf(t, 256, { batchSize: 64, epochs: 50 })
    trainer.send({ type: 'train', choice })
    const { step, path } = await trainer.next('checkpoint')
    await trainer.next('step')
    trainer.send({ type: 'abort', now: true })
    t.deepEqual(await trainer.next('end'), { type: 'end', reason: 'aborted', steps: null, model: null })
    t.true(existsSync(path))
    t.false(existsSync(join(choice.output, 'model')))
    trainer.send({ type: 'chat', messages: [{ role: 'user', content: '1+1=?' }] })
    await trainer.next('answered')
    trainer.send({ type: 'train', choice: { ...choice, resume: true } })
    t.is((await trainer.next('start')).step % step, 0)
    trainer.send({ type: 'quit' })
    t.is(await trainer.exit, 0)
  },
)

test.serial('what fails is a report with a code, and the trainer goes on', async (t) => {
  const trainer = new TrainerChild(t)
  await trainer.next('ready')
  const choice = await choiceOf(t, 16)
  const error = async (type: string, command: unknown) => {
    const before = trainer.of('error').length
    trainer.process.send(command as object)
    while (trainer.of('error').length === before) await trainer.next('error')
    const report = trainer.of('error').at(-1)!
    t.is(report.during, type as typeof report.during)
    return report
  }
  t.is(
    (await error('train', { type: 'train', choice: { ...choice, model: join(choice.model, 'none') } })).code,
    'ERR_INVALID_FILE',
  )
  writeFileSync(`${choice.data}.wrong.jsonl`, '{"instruction": 1}\n')
  const row = await error('train', {
    type: 'train',
    choice: { ...choice, data: `${choice.data}.wrong.jsonl` },
  })
  t.is(row.code, 'ERR_DATA')
  t.regex(row.message, /wrong\.jsonl:1/)
  t.regex((await error('command', { type: 'train', choice: {} })).message, /not a command/)
  t.regex((await error('command', 'hello')).message, /not a command/)
  // One thing at a time.
  trainer.send({ type: 'train', choice: { ...choice, epochs: 100_000 } })
  await trainer.next('step')
  t.regex((await error('chat', { type: 'chat', messages: [] })).message, /busy/)
  trainer.process.disconnect()
  t.is(await trainer.exit, 0)
  t.true(readdirSync(join(choice.output, 'checkpoints')).length > 0)
})

test.serial('an error that nobody catches is told, and the process ends with 1', async (t) => {
  const execArgv = preload(
    `process.on('message', (text) => { if (text === 'throw') throw new Error('on purpose') })`,
  )
  const trainer = new TrainerChild(t, { execArgv })
  await trainer.next('ready')
  trainer.process.send('throw')
  t.is(await trainer.exit, 1)
  const report = trainer.of('error').find(({ during }) => during === 'process')
  t.deepEqual(report, { type: 'error', during: 'process', code: 'ERR_INTERNAL', message: 'on purpose' })
})

test.serial(
  'where there is a parentPort, as in a utilityProcess, the same messages go over it',
  async (t) => {
    const execArgv = preload(`process.parentPort = {
    postMessage: (data) => process.send({ type: 'wrapped', data }),
    on: (event, listener) => process.on(event, (data) => listener({ data })),
  }`)
    const trainer = new TrainerChild(t, { execArgv })
    await trainer.next('wrapped' as 'ready')
    trainer.send({ type: 'chat', messages: [{ role: 'user', content: 'hello' }] })
    const { data } = (await trainer.next('wrapped' as 'ready')) as unknown as { data: unknown }
    t.like(data, { type: 'error', during: 'chat', message: 'No model is loaded: train one first.' })
    trainer.send({ type: 'quit' })
    t.is(await trainer.exit, 0)
  },
)

test.serial(
  'in a utilityProcess no child is started to try libtorch: its program may be the whole app',
  async (t) => {
    const choice = await choiceOf(t, 16)
    const outcome = async (type: string) => {
      const source = `process.type = '${type}'; Object.defineProperty(process, 'execPath', { value: '/bin/false' })`
      const cache = join(choice.output, '..', `cache-${type}`)
      const trainer = new TrainerChild(t, {
        execArgv: preload(source),
        env: { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH: findLibtorch().folder },
      })
      trainer.send({ type: 'train', choice: { ...choice, output: `${choice.output}-${type}` } })
      const end = await trainer.next('end').catch((error: Error) => error.message)
      trainer.send({ type: 'quit' })
      t.is(await trainer.exit, 0)
      return end
    }
    t.like(await outcome('utility'), { reason: 'completed', steps: 2 })
    // What would happen otherwise.
    t.regex(String(await outcome('browser')), /ends the process \(exit code 1\)/)
  },
)

test('a command is known by all of its fields', (t) => {
  const choice = {
    model: 'm',
    data: 'd',
    output: 'o',
    resume: false,
    epochs: 1,
    batchSize: 1,
    learningRate: 1,
    lora: true,
  }
  t.true(isCommand({ type: 'train', choice }))
  for (const [name, value] of Object.entries({
    model: '',
    epochs: 0,
    learningRate: Number.NaN,
    lora: 'yes',
    data: null,
  }))
    t.false(isCommand({ type: 'train', choice: { ...choice, [name]: value } }), name)
  t.true(isCommand({ type: 'abort', now: false }))
  t.false(isCommand({ type: 'abort' }))
  t.true(isCommand({ type: 'chat', messages: [{ role: 'user', content: 'x' }] }))
  t.false(isCommand({ type: 'chat', messages: [{ role: 'system', content: 'x' }] }))
  t.true(isCommand({ type: 'quit' }))
  for (const other of [null, 'quit', 3, {}, { type: 'other' }]) t.false(isCommand(other))
})
