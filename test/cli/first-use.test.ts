import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { RECIPE_NAMES } from '../../lib/train/recipes.js'
import { mainProgram, runNode } from '../helpers/child.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const data = join(folder, 'rows.jsonl')
const short = ['sft', '--model', model, '--data', data, '--threads', '1', '--max-steps', '2', '--json']

test.before(async () => {
  await using tiny = await tinyModel()
  await tiny.save(model)
  const rows = instructionRows(12).map((row) => JSON.stringify(row))
  writeFileSync(data, rows.join('\n'))
})

/** Runs a command in a folder of its own. */
const runIn = (cwd: string, argv: readonly string[]) => runNode([mainProgram, ...argv], { cwd })
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const lossesOf = (stdout: string) =>
  eventsIn(stdout)
    .filter(({ type }) => type === 'step')
    .map(({ loss }) => loss)

test('posttrain alone, help and --help print the commands with code 0; so do version and -v', async (t) => {
  const help = await posttrain(['--help'])
  t.is(help.code, 0)
  for (const argv of [[], ['help']]) t.deepEqual(await posttrain(argv), help)
  t.deepEqual(await posttrain(['help', 'sft']), await posttrain(['sft', '--help']))
  for (const argv of [['--version'], ['-v'], ['version']]) {
    const { code, stdout } = await posttrain(argv)
    t.is(code, 0)
    t.regex(stdout, /^\d+\.\d+\.\d+\n$/)
  }
})

test('the help of a recipe has required options first, groups and two examples, and is right at 80 columns', async (t) => {
  for (const name of RECIPE_NAMES) {
    const { stdout, code } = await posttrain([name, '--help'])
    t.is(code, 0)
    for (const line of stdout.split('\n')) t.true(line.length <= 80, line)
    const headings = [...stdout.matchAll(/^(\w+):$/gm)].map(([, heading]) => heading)
    t.is(headings[0], 'Required')
    for (const heading of ['Data', 'Training', 'LoRA', 'Evaluation', 'Checkpoints', 'Machine', 'General'])
      t.true(headings.includes(heading), `${name}: ${heading}`)
    t.regex(stdout, /\nExamples:\n {2}posttrain .*\n {2}posttrain .*\n$/)
    t.notRegex(stdout, /\(required\)|\b(maxLength|maxNewTokens|groupSize)\b/)
  }
})

test('errors speak in one voice, and all missing options are named at once', async (t) => {
  const fails = async (expected: string, ...argv: string[]) => {
    const { code, stdout, stderr } = await posttrain(argv)
    t.is(code, 2)
    t.is(stdout, '')
    t.is(stderr.split('\n')[0], expected)
    t.is(stderr.includes(" --help' for "), / missing$|command foo$/.test(expected))
  }
  await fails('posttrain sft: --model and --data are missing', 'sft')
  await fails('posttrain grpo: --model, --data and --reward are missing', 'grpo')
  await fails('posttrain merge: --adapter and --output are missing', 'merge', '--model', model)
  await fails('posttrain sft: unknown option --lr; did you mean --learning-rate?', 'sft', '--lr', '1e-5')
  await fails('posttrain sft: --model needs a value: --model <DIR>', 'sft', '--model')
  await fails('posttrain: unknown command stf; did you mean sft?', 'stf')
  await fails('posttrain estimate: unknown command foo', 'estimate', 'foo')
  await fails(
    'posttrain estimate sft: unknown option --modle; did you mean --model?',
    'estimate',
    'sft',
    '--modle',
    'x',
  )
  await fails('posttrain inspect: <data> and --model are missing', 'inspect')
  await fails('posttrain inspect: --model is missing', 'inspect', data)
  await fails(
    'posttrain inspect: --as must be one of sft, preference, unpaired, prompt, got "x"',
    ...['inspect', data, '--model', model, '--as', 'x'],
  )
  await fails(
    'posttrain inspect: --rows must be an integer of at least 0, got -1',
    ...['inspect', data, '--model', model, '--rows', '-1'],
  )
  await fails('posttrain completion: <shell> must be one of bash, zsh, fish, got "sh"', 'completion', 'sh')
  await fails(
    'posttrain sft: --overwrite cannot be combined with --resume: resume the run in the folder, or replace it',
    ...[...short, '--output', join(folder, 'both'), '--resume', '--overwrite'],
  )
})

test('an option of another trainer is answered with the one of this', async (t) => {
  for (const [command, given, ours] of [
    ['sft', '--num-train-epochs', '--epochs'],
    ['sft', '--per_device_train_batch_size', '--batch-size'],
    ['grpo', '--max-steps', '--iterations'],
    ['grpo', '--num-generations', '--group-size'],
  ] as const) {
    const { code, stderr } = await posttrain([command, given, '1'])
    t.is(code, 2)
    t.is(stderr, `posttrain ${command}: unknown option ${given}; did you mean ${ours}?\n`)
  }
})

test('a run folder, an adapter and missing files are named as what they are, before a model is loaded', async (t) => {
  const output = join(cleanFolder(t), 'run')
  t.is((await posttrain([...short, '--lora', '--output', output])).code, 0)
  const fails = async (expected: RegExp, ...argv: string[]) => {
    const { code, stderr } = await posttrain(argv)
    t.is(code, 1)
    t.regex(stderr, expected)
  }
  const asked = ['--prompt', 'a']
  await fails(/run is the folder of a run: load the base.*adapter/, 'generate', '--model', output, ...asked)
  await fails(
    /adapter is an adapter: load its base, then it with loadAdapter or --adapter/,
    ...['generate', '--model', join(output, 'adapter'), ...asked],
  )
  renameSync(join(output, 'adapter'), join(output, 'model'))
  await fails(
    /run is the folder of a run: its model is in .*run\/model/,
    'generate',
    '--model',
    output,
    ...asked,
  )
  rmSync(join(output, 'model'), { recursive: true })
  await fails(
    /run is the folder of a run: it has saved no model yet/,
    'generate',
    '--model',
    output,
    ...asked,
  )
  const broken = join(cleanFolder(t), 'broken')
  cpSync(model, broken, { recursive: true })
  writeFileSync(join(broken, 'model.safetensors'), '')
  await fails(/none\.jsonl does not exist/, 'sft', '--model', broken, '--data', join(folder, 'none.jsonl'))
  const none = join(folder, 'none.ts')
  await fails(
    /--reward .*none\.ts does not exist/,
    ...['grpo', '--model', model, '--data', data, '--reward', none],
  )
})

test('a reward that is an ES module in a package of CommonJS is refused with both ways out', async (t) => {
  const package_ = cleanFolder(t)
  mkdirSync(package_)
  writeFileSync(join(package_, 'package.json'), '{"type": "commonjs"}')
  writeFileSync(join(package_, 'one.js'), 'export default (samples) => samples.map(() => 1)')
  const { code, stderr } = await posttrain([
    ...['grpo', '--model', model, '--data', data, '--reward', join(package_, 'one.js')],
  ])
  t.is(code, 1)
  t.regex(stderr, /it is an ES module, and the nearest package\.json .* name the file .*one\.mjs\n$/)
})

test('a folder that holds something is refused with the flags that help', async (t) => {
  const output = join(folder, 'taken')
  t.is((await posttrain([...short, '--output', output])).code, 0)
  const { code, stderr } = await posttrain([...short, '--output', output])
  t.is(code, 1)
  t.regex(stderr, /: set --resume to continue it, --overwrite to replace it, or choose another output\n$/)
  const adapter = join(folder, 'lora')
  t.is((await posttrain([...short, '--lora', '--output', adapter])).code, 0)
  const merge = [
    'merge',
    '--model',
    model,
    '--adapter',
    join(adapter, 'adapter'),
    '--output',
    join(output, 'model'),
  ]
  const refused = await posttrain(merge)
  t.is(refused.code, 1)
  t.regex(refused.stderr, /already exists.*--overwrite/)
})

test('a run without --output writes to a numbered folder and says so in its first line', async (t) => {
  const cwd = newFolder()
  for (const n of [1, 2]) {
    const { code, stderr } = await runIn(cwd, short.slice(0, -1))
    t.is(code, 0, stderr)
    const [, name] = /^Output: runs\/(sft-\d{4}-\d\d-\d\d-\d+)\n/.exec(stderr) ?? []
    t.true(name?.endsWith(`-${n}`))
    t.true(existsSync(join(cwd, 'runs', name!, 'model/model.safetensors')))
    t.regex(stderr, new RegExp(`model in runs/${name}/model\n$`))
  }
  // A run that never began leaves no folder.
  t.is((await runIn(cwd, [...short, '--model', join(folder, 'nowhere')])).code, 1)
  t.is(readdirSync(join(cwd, 'runs')).length, 2)
})

test('--lora alone turns LoRA on with its defaults', async (t) => {
  const output = cleanFolder(t)
  const { code, stderr } = await posttrain([...short, '--lora', '--output', output])
  t.is(code, 0, stderr)
  const { options } = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'))
  t.like(options.lora, { rank: 16 })
  const off = await posttrain([...short, '--no-lora', '--lora-rank', '8'])
  t.is(off.code, 2)
  t.regex(off.stderr, /--lora-rank has no effect with --no-lora/)
})

test("a run's config.json is a config: the same losses, in a new folder; flags win", async (t) => {
  const output = join(cleanFolder(t), 'first')
  const argv = [...short, '--validation', '0.25', '--lora', '--schedule', 'constant', '--early-stopping']
  const first = await posttrain([...argv, '--output', output])
  t.is(first.code, 0, first.stderr)
  const cwd = newFolder()
  const record = ['sft', '--config', join(output, 'config.json'), '--json', '--threads', '1']
  const again = await runIn(cwd, record)
  t.is(again.code, 0, again.stderr)
  t.deepEqual(lossesOf(again.stdout), lossesOf(first.stdout))
  const [made] = readdirSync(join(cwd, 'runs'))
  const optionsIn = (path: string) => {
    const { options, data, model } = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'))
    return { options: { ...options, output: '' }, data, model }
  }
  t.deepEqual(optionsIn(join(cwd, 'runs', made!)), optionsIn(output))
  t.is(lossesOf((await runIn(cwd, [...record, '--max-steps', '1'])).stdout).length, 1)
  const resumed = await runIn(cwd, [...record, '--resume', '--max-steps', '3'])
  t.is(resumed.code, 0, resumed.stderr)
  t.like(eventsIn(resumed.stdout).at(-1), { steps: 3, output })
  const other = await posttrain(['dpo', '--config', join(output, 'config.json')])
  t.regex(other.stderr, /is of a run of sft: use posttrain sft/)
})

test('configs are YAML or JSON with comments, and errors in them have line and column', async (t) => {
  const yaml = file(
    'a.yaml',
    `model: ${model}\n# rows\ndata: ${data}\nmaxSteps: 2\nlearningRate: 1e-5\nlora:\n  rank: 4\n`,
  )
  const output = cleanFolder(t)
  const { code, stderr } = await posttrain(['sft', '--config', yaml, '--output', output, '--json'])
  t.is(code, 0, stderr)
  const { options } = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'))
  t.like(options, { learningRate: 1e-5, maxSteps: 2 })
  t.is(options.lora.rank, 4)
  const lists = file('g.yaml', `model: ${model}\ndata: [${data}, ${data}]\nmaxSteps: 1\nlora: true\n`)
  const listed = await posttrain(['sft', '--config', lists, '--output', cleanFolder(t), '--json'])
  t.is(listed.code, 0, listed.stderr)
  t.is((eventsIn(listed.stdout)[0]!.report as { read: number }).read, 24)
  const json = file(
    'b.json',
    `// first\n{ "model": "${model}", /* b */ "data": "${data}", "maxSteps": 2, "stop": 1, }`,
  )
  const fails = async (path: string, expected: RegExp) => {
    const refused = await posttrain(['sft', '--config', path])
    t.is(refused.code, 2)
    t.regex(refused.stderr, expected)
  }
  await fails(json, /^posttrain sft: .*b\.json:2:\d+: unknown option stop; known are /)
  await fails(
    file('c.yaml', 'epochs: 3\nlora:\n  rnak: 4\n'),
    /c\.yaml:3:3: unknown option lora\.rnak; did you mean lora\.rank\?/,
  )
  await fails(file('d.yaml', 'epochs: 3\nepochs: 4\n'), /d\.yaml:2:1: not YAML: /)
  await fails(
    file('e.yaml', '\nepochs: three\n'),
    /e\.yaml:2:1: epochs must be a(n integer| number), got "three"/,
  )
  await fails(file('f.json', '{"epochs": 1\n"lora": {}}'), /f\.json:1:12: not JSON: /)
})
