import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const data = join(folder, 'rows.jsonl')
const plain = ['sft', '--model', model, '--data', data, '--threads', '1', '--learning-rate', '3e-3']
/** 30 rows, 4 a step: 8 steps an epoch. */
const long = [...plain, '--batch-size', '4', '--epochs', '8', '--json']

test.before(async () => {
  await using tiny = await tinyModel()
  await tiny.save(model)
  writeFileSync(
    data,
    instructionRows(30)
      .map((row) => JSON.stringify(row))
      .join('\n'),
  )
})

const losses = (stdout: string) =>
  eventsIn(stdout)
    .filter(({ type }) => type === 'step')
    .map(({ step, loss }) => [step, loss])
const weights = (output: string) => readFileSync(join(output, 'model/model.safetensors'))

let uninterrupted: Promise<{ losses: unknown[][]; weights: Buffer }> | undefined
function whole() {
  uninterrupted ??= (async () => {
    const output = join(folder, 'whole')
    const { stdout } = await posttrain([...long, '--output', output])
    return { losses: losses(stdout), weights: weights(output) }
  })()
  return uninterrupted
}

async function resumes(t: ExecutionContext, output: string, before: unknown[][]) {
  const expected = await whole()
  t.deepEqual(before, expected.losses.slice(0, before.length))
  const after = await posttrain([...long, '--output', output, '--resume'])
  t.is(after.code, 0, after.stderr)
  const later = losses(after.stdout)
  t.deepEqual(later, expected.losses.slice(-later.length))
  t.true(weights(output).equals(expected.weights))
  const metrics = losses(readFileSync(join(output, 'metrics.jsonl'), 'utf8'))
  t.deepEqual(metrics, expected.losses)
}

test('--json: one event a line on stdout, nothing else there, and none of it on stderr', async (t) => {
  const output = cleanFolder(t)
  const argv = [...plain, '--max-steps', '3', '--validation', '0.2', '--evaluation-every-steps', '2']
  const { code, stdout, stderr } = await posttrain([...argv, '--output', output, '--json'])
  t.is(code, 0, stderr)
  t.is(stderr, '')
  const events = eventsIn(stdout)
  t.deepEqual(
    events.map(({ type }) => type),
    ['start', 'step', 'step', 'evaluation', 'checkpoint', 'step', 'epoch', 'evaluation', 'checkpoint', 'end'],
  )
  const names = [
    'type',
    'step',
    'epoch',
    'loss',
    'gradNorm',
    'learningRate',
    'tokens',
    'tokensPerSecond',
    'trainTokens',
  ]
  t.deepEqual(Object.keys(events[1]!).slice(0, names.length), names)
  t.deepEqual(Object.keys(events[3]!).slice(0, 5), ['type', 'step', 'epoch', 'loss', 'perplexity'])
  t.like(events.at(-1), { type: 'end', steps: 3, output })
  t.true(existsSync(join(output, 'model/config.json')))
  t.like(JSON.parse(readFileSync(join(output, 'config.json'), 'utf8')), {
    recipe: 'sft',
    options: { data, learningRate: 3e-3, maxSteps: 3, template: 'none', maxGradNorm: 1 },
  })
})

test('plain lines on stderr, nothing on stdout', async (t) => {
  const output = cleanFolder(t)
  const { code, stdout, stderr } = await posttrain([...plain, '--max-steps', '2', '--output', output])
  t.is(code, 0)
  t.is(stdout, '')
  t.regex(
    stderr,
    /^Loading the model\nReading the data\nData: .*\nTraining .* 2 steps\n1\/2 loss .* tokens\/s .* left\n2\/2 /,
  )
  t.is(
    (await posttrain([...plain, '--max-steps', '1', '--quiet', '--output', output, '--overwrite'])).stderr,
    '',
  )
})

test('exit codes: 1 for what failed, 2 for wrong usage, one sentence, no stack', async (t) => {
  const fails = async (expected: number, sentence: RegExp, ...argv: string[]) => {
    const { code, stdout, stderr } = await posttrain(argv)
    t.is(code, expected, stderr)
    t.is(stdout, '')
    t.regex(stderr, sentence)
    t.false(/^\s+at /m.test(stderr), stderr)
    const lines = stderr.trim().split('\n')
    t.true(lines.filter((line) => !/^(Output|Loading|Reading)/.test(line)).length <= 2, stderr)
  }
  await fails(1, /nowhere does not exist/, 'sft', '--model', join(folder, 'nowhere'), '--data', data)
  await fails(1, /nothing\.jsonl/, 'sft', '--model', model, '--data', join(folder, 'nothing.jsonl'))
  await fails(2, /--data is missing/, 'sft', '--model', model)
  await fails(
    2,
    /^posttrain sft: unknown option --epohcs; did you mean --epochs\?\n/,
    ...plain,
    '--epohcs',
    '2',
  )
  await fails(2, /--epochs must be an integer, got 1\.5/, ...plain, '--epochs', '1.5')
  await fails(2, /--max-steps cannot be combined with/, ...plain, '--epochs', '1', '--max-steps', '2')
  await fails(2, /--device must be auto, cpu, cuda or cuda:N/, ...plain, '--device', 'gpu')
  await fails(2, /^posttrain: unknown command stf; did you mean sft\?\n/, 'stf')
})

test('--help names every command, and every option of a command', async (t) => {
  const top = await posttrain(['--help'])
  t.is(top.code, 0)
  for (const name of ['sft', 'pretrain', 'generate', 'chat', 'inspect', 'doctor'])
    t.regex(top.stdout, new RegExp(`^  ${name} `, 'm'))
  for (const name of ['pretrain', 'generate', 'chat', 'inspect', 'doctor']) {
    const { code, stdout } = await posttrain([name, '--help'])
    t.is(code, 0)
    t.regex(stdout, new RegExp(`^Usage: posttrain ${name} `))
  }
  const { code, stdout } = await posttrain(['sft', '--help'])
  t.is(code, 0)
  for (const name of [
    'model',
    'data',
    'learning-rate',
    'early-stopping-patience',
    'train-on',
    'threads',
    'config',
    'json',
  ]) {
    t.regex(stdout, new RegExp(`^  --${name} `, 'm'))
  }
})

test('a reader that goes away stops the run as a signal does: it saves', async (t) => {
  const output = cleanFolder(t)
  const argv = [...long, '--epochs', '500', '--output', output]
  const { code, signal, stderr } = await posttrain(argv, (line, child) => {
    if (line.includes('"step":3,')) child.stdout?.destroy()
  })
  t.is(signal, null)
  t.is(code, 130)
  t.regex(stderr, /interrupted and saved in /)
  const [checkpoint] = readdirSync(join(output, 'checkpoints'))
  t.regex(checkpoint!, /^step-\d+$/)
  t.true(existsSync(join(output, 'model', 'model.safetensors')))
})

test('pretrain --from-scratch trains new weights for a folder of config and tokenizer', async (t) => {
  const output = cleanFolder(t)
  const corpus = join(folder, 'corpus.txt')
  writeFileSync(corpus, Array.from({ length: 20 }, (_, i) => `Paragraph ${i} is here.`).join('\n\n'))
  const argv = [
    'pretrain',
    '--model',
    model,
    '--data',
    corpus,
    '--from-scratch',
    '--seed',
    '9',
    '--threads',
    '1',
  ]
  const { code, stdout, stderr } = await posttrain([...argv, '--output', output, '--json'])
  t.is(code, 0, stderr)
  const steps = losses(stdout)
  t.is(steps.length, 3)
  t.true((steps[0]![1] as number) > 5)
  t.true(existsSync(join(output, 'model/model.safetensors')))
})

for (const signals of [['SIGINT'], ['SIGTERM'], ['SIGHUP', 'SIGHUP']] as const) {
  const title = `${signals.join(' and ')} finishes the step, saves, says how to resume; the resume is the same run`
  test(title, async (t) => {
    const output = cleanFolder(t)
    const { code, stdout, stderr } = await posttrain([...long, '--output', output], (line, child) => {
      if (line.includes('"step":11,')) for (const signal of signals) child.kill(signal)
    })
    t.is(code, 130, stderr)
    t.regex(stderr, /interrupted and saved in .*step-\d+; resume with the same command and --resume/)
    const before = losses(stdout)
    t.true(before.length >= 11 && before.length < 64)
    await resumes(t, output, before)
  })
}

test('a second SIGINT leaves at once with 130, and the process is not aborted', async (t) => {
  const output = cleanFolder(t)
  // An evaluation of a second or more after each step: the first SIGINT waits for it.
  const validation = join(folder, 'validation.jsonl')
  const rows = instructionRows(6000, 100).map((row) => JSON.stringify(row))
  writeFileSync(validation, rows.join('\n'))
  const argv = [...long, '--output', output, '--validation', validation, '--evaluation-every-steps', '1']
  let sent = 0
  const { code, signal, stdout } = await posttrain(argv, (line, child) => {
    if (!line.startsWith('{"type":"step"') || sent++ > 0) return
    child.kill('SIGINT')
    setTimeout(() => child.kill('SIGINT'), 10)
  })
  t.is(signal, null)
  t.is(code, 130)
  t.deepEqual(
    eventsIn(stdout).map(({ type }) => type),
    ['start', 'step'],
  )
  t.false(existsSync(join(output, 'model')))
})

test('kill -9 in the training, then resume: every loss as if nothing had happened', async (t) => {
  for (const at of [9, 20, 41]) {
    const output = cleanFolder(t)
    const { signal, stdout } = await posttrain([...long, '--output', output], (line, child) => {
      if (line.includes(`"step":${at},`)) child.kill('SIGKILL')
    })
    t.is(signal, 'SIGKILL')
    t.true(readdirSync(join(output, 'checkpoints')).includes(`step-${Math.floor((at - 1) / 8) * 8}`))
    await resumes(t, output, losses(stdout.slice(0, stdout.lastIndexOf('\n') + 1)))
  }
})

test('a disk that is full while a checkpoint is written: one sentence, and the one before is whole', async (t) => {
  const output = cleanFolder(t)
  const bytes = readFileSync(join(model, 'model.safetensors')).length
  const first = await posttrain([...long, '--output', output], (line, child) => {
    if (line.includes('"checkpoint","step":8,')) child.kill('SIGKILL')
  })
  t.is(first.signal, 'SIGKILL')
  // A limit on the size of files fails the write as a full disk does, in the middle of the moments.
  const blocks = Math.ceil((bytes * 1.2) / 512)
  const { code, stderr } = await posttrain(
    [...long, '--output', output, '--resume'],
    undefined,
    `ulimit -f ${blocks}`,
  )
  t.is(code, 1)
  t.regex(stderr, /^posttrain sft: .*optimizer\.safetensors.*\n$/)
  t.deepEqual(
    readdirSync(join(output, 'checkpoints')).filter((name) => !name.startsWith('.')),
    ['step-8'],
  )
  await resumes(t, output, [])
})
