import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Command } from 'commander'
import { report } from '../../lib/cli/program.js'
import { Progress } from '../../lib/cli/progress.js'
import { needWritable } from '../../lib/files/atomic.js'
import { posttrain } from '../helpers/command-line.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const data = join(folder, 'rows.jsonl')

test.before(async () => {
  await using tiny = await tinyModel()
  await tiny.save(model)
  const lines = instructionRows(50).map((row) => `${JSON.stringify(row)}\n`)
  writeFileSync(data, lines.join('').repeat(400))
})

const onFull = existsSync('/dev/full') ? test : test.skip

onFull('output that finds no room is an error of every command, with exit code 1', async (t) => {
  for (const argv of [
    ['--help'],
    ['sft', '--help'],
    ['completion', 'bash'],
    ['generate', '--model', model, '--prompt', 'a', '--max-new-tokens', '1'],
  ]) {
    const { code, stderr } = await posttrain(argv, undefined, 'exec >/dev/full')
    t.is(code, 1, argv[0])
    t.regex(stderr, /^posttrain \S+: Cannot write to stdout: ENOSPC.*\n$/)
  }
  const { code, stderr } = await posttrain(['--help'], (_, child) => child.stdout?.destroy())
  t.deepEqual([code, stderr], [0, ''])
})

test('interrupted while it reads, a run ends at once and leaves nothing', async (t) => {
  const output = cleanFolder(t)
  const argv = ['sft', '--model', model, '--data', data, '--output', output, '--max-steps', '1']
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const watch = (line: string, child: { kill(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP'): unknown }) => {
      if (line === 'Reading the data') child.kill(signal)
    }
    const { code, stdout } = await posttrain(argv, watch, 'exec 2>&1')
    t.is(code, 130, stdout)
    t.regex(
      stdout,
      /^Loading the model\nReading the data\nposttrain sft: interrupted before its first step\n$/,
    )
    t.false(existsSync(output) && readdirSync(output).length > 0)
  }
})

test('an output that cannot be written is said before a model is loaded', async (t) => {
  for (const output of [data, join(data, 'run')]) {
    const { code, stderr } = await posttrain(['sft', '--model', 'none', '--data', data, '--output', output])
    t.is(code, 1)
    t.regex(
      stderr,
      /^(Loading the model\n)?posttrain sft: writing .*rows\.jsonl.* failed: .*not a (folder|directory)/,
    )
  }
  await t.notThrowsAsync(needWritable(join(folder, 'a', 'b')))
  t.false(existsSync(join(folder, 'a')))
})

test('a process that may open no more files says how to raise the limit', (t) => {
  const { write } = process.stderr
  let told = ''
  process.stderr.write = ((text: string) => {
    told += text
    return true
  }) as typeof write
  const error = Object.assign(new Error("EMFILE: too many open files, open 'x'"), { code: 'EMFILE' })
  const code = report(error, new Command('sft'))
  process.stderr.write = write
  t.deepEqual(
    [code, told],
    [
      1,
      "sft: EMFILE: too many open files, open 'x': raise the limit of open files, such as with ulimit -n 1024\n",
    ],
  )
})

test.serial('progress goes on where the clock is set back', (t) => {
  const { now } = Date
  let [text, back] = ['', 0]
  Date.now = () => now() - back
  const progress = new Progress({
    isTTY: true,
    write: (part) => {
      text += part
    },
  })
  progress.enter('loading')
  back = 86_400_000
  try {
    const before = performance.now()
    while (performance.now() - before < 1100);
    progress.tick()
  } finally {
    Date.now = now
  }
  t.regex(text, /Loading the model 1s/)
})
