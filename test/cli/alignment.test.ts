import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const file = (name: string, content: string) => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}
const lines = (rows: object[]) => rows.map((row) => JSON.stringify(row)).join('\n')
file('package.json', '{"type":"module"}')
const prompts = file('prompts.jsonl', lines(instructionRows(16)))
const rankings = file(
  'rankings.jsonl',
  lines(
    Array.from({ length: 20 }, (_, i) => ({
      instruction: `Say ${i}.`,
      chosen: `yes ${i}`,
      rejected: `no ${i}`,
    })),
  ),
)
const low = file(
  'low.js',
  'export default (all) => all.map(({ tokenIds }) => tokenIds.filter((id) => id < 128).length)',
)
const count = file(
  'count.js',
  'export const reward = async (all) => all.map(({ tokenIds }) => tokenIds.length)',
)
const shared = ['--model', model, '--threads', '1', '--learning-rate', '1e-3']
const rollouts = [
  ...shared,
  '--data',
  prompts,
  '--iterations',
  '2',
  '--batch-size',
  '4',
  '--max-new-tokens',
  '6',
]

test.before(async () => {
  await using tiny = await tinyModel()
  await tiny.save(model)
})

/** What a command wrote as JSON lines; fails where it failed. */
async function json(...argv: string[]) {
  const { code, stdout, stderr } = await posttrain([...argv, '--json'])
  if (code !== 0 || stderr !== '') throw new Error(`${code} ${stderr}`)
  const events = eventsIn(stdout)
  return {
    types: events.map(({ type }) => type),
    steps: events.filter(({ type }) => type === 'step'),
    events,
  }
}

const STEP = ['type', 'step', 'epoch', 'loss', 'gradNorm', 'learningRate', 'tokens', 'tokensPerSecond']

test('reward, then ppo with its folder and two files, each with its weight', async (t) => {
  const [judge, output] = [cleanFolder(t), cleanFolder(t)]
  const reward = await json(
    ...[
      'reward',
      ...shared,
      '--data',
      rankings,
      '--validation',
      '0.2',
      '--pad-token',
      '!',
      '--output',
      judge,
    ],
  )
  t.deepEqual(reward.types, ['start', 'step', 'step', 'epoch', 'evaluation', 'checkpoint', 'end'])
  t.deepEqual(Object.keys(reward.steps[0]!), [
    ...STEP,
    ...['accuracy', 'margin', 'meanReward', 'minReward', 'maxReward'],
  ])
  t.like(reward.events.at(-1), { type: 'end', steps: 2, output: judge, model: join(judge, 'model') })
  t.like(JSON.parse(readFileSync(join(judge, 'model/config.json'), 'utf8')), {
    architectures: ['LlamaForSequenceClassification'],
  })

  const sources = ['--reward', join(judge, 'model'), '--reward', `${low}=0.5`, '--reward', `${count}=-0.25`]
  const ppo = await json('ppo', ...rollouts, ...sources, '--samples-count', '1', '--output', output)
  t.deepEqual(ppo.types, ['start', 'step', 'sample', 'step', 'sample', 'checkpoint', 'end'])
  for (const name of [...STEP, 'score', 'kl', 'klCoef', 'entropy', 'responseLength', 'valueLoss', 'seconds'])
    t.true(name in ppo.steps[0]!, name)
  for (const { score, scoreBySource } of ppo.steps) {
    const by = scoreBySource as Record<string, number>
    t.deepEqual(Object.keys(by), [join(judge, 'model'), low, count])
    const sum = by[join(judge, 'model')]! + 0.5 * by[low]! - 0.25 * by[count]!
    t.true(Math.abs(sum - (score as number)) < 1e-9)
  }
  t.true(existsSync(join(output, 'model/model.safetensors')))
  t.true(existsSync(join(output, 'critic/model.safetensors')))

  // A weight may be written as any number, and a name that is there is no weight.
  const named = `${low.slice(0, -3)}=2.js`
  copyFileSync(low, named)
  const folder = `${join(judge, 'model')}=3`
  cpSync(join(judge, 'model'), folder, { recursive: true })
  const weights = ['--reward', `${low}=1e-2`, '--reward', `${named}=+.5`, '--reward', folder]
  const weighed = await json('ppo', ...rollouts, ...weights)
  for (const { score, scoreBySource } of weighed.steps) {
    const by = scoreBySource as Record<string, number>
    t.deepEqual(Object.keys(by), [low, named, folder])
    const sum = 0.01 * by[low]! + 0.5 * by[named]! + by[folder]!
    t.true(Math.abs(sum - (score as number)) < 1e-9)
  }
})

test('dpo of all weights and kto; grpo and rloo with options of their own', async (t) => {
  const output = cleanFolder(t)
  const dpo = await json(
    'dpo',
    ...shared,
    '--data',
    rankings,
    '--loss',
    'ipo',
    '--beta',
    '0.2',
    '--output',
    output,
  )
  t.deepEqual(dpo.types, ['start', 'step', 'step', 'step', 'epoch', 'checkpoint', 'end'])
  t.deepEqual(Object.keys(dpo.steps[0]!).slice(0, 10), [...STEP, 'accuracy', 'margin'])
  t.like(JSON.parse(readFileSync(join(output, 'config.json'), 'utf8')), {
    recipe: 'dpo',
    options: { loss: 'ipo', beta: 0.2 },
  })
  const labeled = file('labeled.jsonl', lines([{ prompt: 'a', completion: 'b', label: true }]))
  const kto = await json('dpo', ...shared, '--data', labeled, '--loss', 'kto')
  t.deepEqual(kto.types, ['start', 'warning', 'step', 'epoch', 'checkpoint', 'end'])

  const groups = ['--reward', low, '--group-size', '2']
  const grpo = await json(
    'grpo',
    ...rollouts,
    ...groups,
    '--scale-rewards',
    'batch',
    '--overlong-tokens',
    '3',
  )
  t.deepEqual(grpo.types, ['start', 'step', 'step', 'checkpoint', 'end'])
  t.is(typeof grpo.steps[0]?.scoreSpread, 'number')
  t.false('kl' in grpo.steps[0]!)
  const rloo = await json('rloo', ...rollouts, ...groups, '--kl-coef', '0.1', '--normalize-advantages')
  t.deepEqual(rloo.types, ['start', 'step', 'step', 'checkpoint', 'end'])
  t.is(rloo.steps[0]?.klCoef, 0.1)
})

test('grpo from a config file, with LoRA; merge makes a plain model of its adapter, once', async (t) => {
  const [output, merged] = [cleanFolder(t), cleanFolder(t)]
  const config = file('grpo.json', JSON.stringify({ lora: { rank: 2, alpha: 4 }, groupSize: 2, seed: 3 }))
  const argv = [
    'grpo',
    ...rollouts,
    '--reward',
    low,
    '--config',
    config,
    '--group-size',
    '3',
    '--output',
    output,
  ]
  const { events } = await json(...argv)
  t.like(events.at(-1), { type: 'end', model: join(output, 'adapter') })
  t.like(JSON.parse(readFileSync(join(output, 'config.json'), 'utf8')).options, { groupSize: 3, seed: 3 })
  t.like(JSON.parse(readFileSync(join(output, 'adapter/adapter_config.json'), 'utf8')), {
    r: 2,
    lora_alpha: 4,
  })

  const merge = ['merge', '--model', model, '--adapter', join(output, 'adapter'), '--output', merged]
  t.deepEqual(await posttrain(merge), { code: 0, signal: null, stdout: `${merged}\n`, stderr: '' })
  await using whole = await CausalLM.load(merged)
  await using base = await CausalLM.load(model)
  const name = 'model.layers.0.self_attn.q_proj.weight'
  t.notDeepEqual((await whole.getParameter(name)).values, (await base.getParameter(name)).values)
  const again = await posttrain(merge)
  t.is(again.code, 1)
  t.regex(again.stderr, /^posttrain merge: .* already exists: set --overwrite to replace it\n$/)
})

test('progress: a line says score, KL and length; the end says them too', async (t) => {
  const { code, stdout, stderr } = await posttrain([
    'ppo',
    ...rollouts,
    '--reward',
    low,
    '--samples-count',
    '1',
  ])
  t.is(code, 0, stderr)
  t.is(stdout, '')
  const facts = String.raw`score \d+\.\d\d KL \d+\.\d\d length \d\.\d\d`
  t.regex(
    stderr,
    new RegExp(
      [
        String.raw`^Output: runs/ppo-[\d-]+`,
        'Loading the model',
        'Reading the data',
        'Data: 16 prompts of 16 rows, 22 to 23 tokens, median 22',
        String.raw`Training 26\.8k trainable of 26\.8k parameters, 2 steps`,
        String.raw`1/2 ${facts} .* tokens/s \d+s left`,
        String.raw`Step 1: ".*" -> ".*", score \d+\.\d\d, KL 0\.00`,
        `2/2 ${facts} .* tokens/s 0s left`,
        'Step 2: .*',
        'Step 2: checkpoint .*',
        String.raw`Ended after 2 steps in \d+s, ${facts}; model in runs/.*/model\n$`,
      ].join('\n'),
    ),
  )
})

test('what fails is one sentence and 1, wrong usage 2', async (t) => {
  const pipe = join(folder, 'pipe.js')
  execFileSync('mkfifo', [pipe])
  const empty = file('empty.js', 'export const other = 1')
  const broken = file('broken.js', 'export default () => { throw new Error("no judge today") }')
  const few = file('few.js', 'export default () => [1]')
  const syntax = file('syntax.js', 'export default (')
  const cases: [number, RegExp, ...string[]][] = [
    [1, /pipe\.js is not a file/, ...rollouts, '--reward', pipe],
    [1, /--reward .*nothing\.js does not exist/, ...rollouts, '--reward', join(folder, 'nothing.js')],
    [1, /--reward .*syntax\.js cannot be loaded: /, ...rollouts, '--reward', syntax],
    [1, /--reward .*empty\.js exports no function: export default/, ...rollouts, '--reward', empty],
    [1, /broken\.js threw: no judge today/, ...rollouts, '--reward', broken],
    [1, /few\.js returned 1 value for 4 samples/, ...rollouts, '--reward', few],
    [1, /nowhere/, ...rollouts, '--reward', join(folder, 'nowhere')],
    [1, /ranking|chosen/, ...shared, '--data', join(folder, 'prompts.jsonl')],
    [2, /--reward is missing/, ...rollouts],
    [2, /--batch-size must be/, ...rollouts, '--reward', low, '--batch-size', '0'],
    [2, /--kl-target/, ...rollouts, '--reward', low, '--kl-target', '3', '--kl-in', 'loss'],
    [
      2,
      /unknown option --group-sise; did you mean --group-size\?/,
      ...rollouts,
      '--reward',
      low,
      '--group-sise',
      '2',
    ],
    [
      2,
      /--label-smoothing has an effect only with losses/,
      ...shared,
      '--data',
      rankings,
      '--label-smoothing',
      '0.1',
    ],
  ]
  await Promise.all(
    cases.map(async ([expected, sentence, ...argv]) => {
      const command = argv.includes('--group-sise')
        ? 'rloo'
        : argv.includes('--reward')
          ? 'ppo'
          : argv.includes('--iterations')
            ? 'grpo'
            : 'dpo'
      const { code, stdout, stderr } = await posttrain([command, ...argv, '--quiet'])
      t.is(code, expected, `${command} ${argv.at(-1)}: ${stderr}`)
      t.is(stdout, '')
      t.regex(stderr, sentence)
      t.false(/^\s+at /m.test(stderr), stderr)
      t.true(stderr.trim().split('\n').length <= 2, stderr)
    }),
  )
})

test('--help of each command names its own options', async (t) => {
  const own: Record<string, string[]> = {
    reward: ['center', 'pad-token'],
    dpo: ['loss', 'beta', 'sft-coef'],
    ppo: ['reward', 'kl-target', 'critic-warmup', 'samples-count'],
    grpo: ['group-size', 'scale-rewards', 'lora-rank'],
    rloo: ['normalize-advantages', 'reward-timeout-ms'],
    merge: ['adapter', 'save-dtype'],
  }
  for (const [name, options] of Object.entries(own)) {
    const { code, stdout } = await posttrain([name, '--help'])
    t.is(code, 0)
    t.regex(stdout, new RegExp(`^Usage: posttrain ${name} `))
    for (const option of [...options, 'model']) t.regex(stdout, new RegExp(`^  --${option} `, 'm'))
  }
})

test('SIGINT between two iterations saves; the resume is the same run', async (t) => {
  const argv = ['ppo', ...rollouts, '--iterations', '8', '--reward', low, '--json']
  const [whole, output] = [cleanFolder(t), cleanFolder(t)]
  const numbers = (stdout: string) =>
    eventsIn(stdout)
      .filter(({ type }) => type === 'step')
      .map(({ step, loss, score, kl, valueLoss }) => ({ step, loss, score, kl, valueLoss }))
  const expected = numbers((await posttrain([...argv, '--output', whole])).stdout)
  const { code, stdout, stderr } = await posttrain([...argv, '--output', output], (line, child) => {
    if (line.includes('"step","step":3,')) child.kill('SIGINT')
  })
  t.is(code, 130, stderr)
  t.regex(stderr, /interrupted and saved in .*step-\d; resume with the same command and --resume/)
  const before = numbers(stdout)
  t.true(before.length >= 3 && before.length < 8, stdout)
  const after = await posttrain([...argv, '--output', output, '--resume'])
  t.is(after.code, 0, after.stderr)
  t.deepEqual([...before, ...numbers(after.stdout)], expected)
  for (const part of ['model', 'critic'])
    t.deepEqual(
      readFileSync(join(output, part, 'model.safetensors')),
      readFileSync(join(whole, part, 'model.safetensors')),
    )
})

test('SIGINT while a reward function is awaited drops the rollout, and what the function holds keeps nothing alive', async (t) => {
  // The third time it never resolves, and its timer would keep the process alive.
  const slow = file(
    'slow.js',
    `let calls = 0
export default (all) => {
  if (++calls < 3) return all.map(({ tokenIds }) => tokenIds.length)
  console.error('asked')
  return new Promise(() => setInterval(() => undefined, 1000))
}`,
  )
  const output = cleanFolder(t)
  const argv = ['grpo', ...rollouts, '--iterations', '4', '--reward', slow, '--output', output, '--json']
  const { code, stdout, stderr } = await posttrain(argv, (line, child) => {
    if (!line.includes('"type":"start"')) return
    child.stderr?.on('data', (text: string) => {
      if (text.includes('asked')) child.kill('SIGINT')
    })
  })
  t.is(code, 130, stderr)
  t.deepEqual(
    eventsIn(stdout).map(({ type }) => type),
    ['start', 'step', 'step', 'checkpoint', 'end'],
  )
  t.like(eventsIn(stdout).at(-1), { reason: 'stopped', steps: 2 })
  const resumed = await posttrain([...argv, '--reward-timeout-ms', '1', '--resume'])
  t.is(resumed.code, 0, resumed.stderr)
  t.like(eventsIn(resumed.stdout).at(-1), { reason: 'completed', steps: 4 })
})
