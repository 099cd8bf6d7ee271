import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { estimateOptions } from '../../lib/cli/estimate.js'
import type { EstimateReport } from '../../lib/cli/estimate-report.js'
import { CausalLM, reward, type StartEvent, sft } from '../../lib/index.js'
import { flagsOf } from '../../lib/options/flags.js'
import { RECIPE_NAMES } from '../../lib/train/recipes.js'
import { posttrain } from '../helpers/command-line.js'
import { startHub } from '../helpers/hub-server.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const tiny = join(folder, 'tiny')
const large = join(folder, 'large')

test.before(async () => {
  await using model = await tinyModel()
  await model.save(tiny)
  mkdirSync(large)
  const config = {
    model_type: 'mistral',
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-5,
    sliding_window: null,
  }
  writeFileSync(join(large, 'config.json'), JSON.stringify(config))
})

const onCuda = ['--device', 'cuda', '--dtype', 'bfloat16']
const ppo = ['ppo', ...onCuda, '--batch-size', '8', '--max-prompt-length', '512', '--max-new-tokens', '512']

test('a folder with a config alone is enough for memory by part and the batch that fits', async (t) => {
  const argv = ['estimate', ...ppo, '--model', large, '--lora-rank', '16', '--activation-checkpointing']
  const shown = await posttrain([...argv, '--batch-tokens', '1024', '--memory', '24GB'])
  t.is(shown.code, 0, shown.stderr)
  t.regex(shown.stdout, /ppo of 7\.284 billion parameters, 41\.94 million trained, on cuda, bfloat16/)
  t.regex(shown.stdout, /peak +rollout +score +update\n/)
  t.regex(shown.stdout, /weights of the model +14\.48 GB\n/)
  t.regex(shown.stdout, /needs .* GB, 24\.00 GB available: fits\n/)
  t.regex(shown.stdout, /largest batch that fits: \d+ rows, \d+ tokens \(--batch-tokens\)\n/)

  const told = await posttrain([...argv, '--memory', '10 GiB', '--json'])
  t.is(told.code, 1)
  const report = JSON.parse(told.stdout) as EstimateReport
  t.like(report, { type: 'estimate', recipe: 'ppo', device: 'cuda', memory: 10 * 2 ** 30, fits: false })
  t.is(report.largestBatch, null)
  t.is(report.probe, null)
  for (const { peak } of report.phases) {
    const { total, ...parts } = peak
    t.is(
      Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
      total,
    )
  }
})

test('rewards: a folder is a model of its own, an adapter shares the base, a function needs nothing', async (t) => {
  const adapter = join(folder, 'adapter')
  mkdirSync(adapter)
  writeFileSync(
    join(adapter, 'adapter_config.json'),
    JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj', 'v_proj'] }),
  )
  const heldWith = async (...reward: string[]) => {
    const argv = ['estimate', ...ppo, '--model', large, '--lora-rank', '16', '--memory', '1TB', '--json']
    const { stdout, stderr } = await posttrain([...argv, ...reward])
    t.is(stderr, '')
    return (JSON.parse(stdout) as EstimateReport).held.map(({ part, name }) => `${part} ${name}`)
  }
  const withFunction = await heldWith('--reward', 'score.js')
  t.deepEqual(
    withFunction.filter((item) => /^(weights|adapters|heads)/.test(item)),
    ['weights model', 'adapters adapter', 'adapters critic', 'heads critic'],
  )
  t.true((await heldWith('--reward', `${large}=0.5`)).includes('weights reward'))
  const shared = await heldWith('--reward', adapter)
  t.false(shared.includes('weights reward'))
  t.true(shared.includes('adapters reward'))

  const refused = await posttrain([
    'estimate',
    ...ppo,
    '--model',
    large,
    '--adapter',
    adapter,
    '--lora-rank',
    '4',
  ])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /lora adds an adapter, but the model already uses one/)
})

test.serial('of a model on the Hub its config alone is fetched', async (t) => {
  const { hub } = await startHub(t)
  const argv = ['estimate', 'sft', '--model', 'org/tiny', '--device', 'cpu', '--memory', '4GB', '--json']
  const { code, stdout, stderr } = await posttrain(argv)
  t.is(code, 0, stderr)
  t.true((JSON.parse(stdout) as EstimateReport).peak > 0)
  const files = hub.asked
    .filter((request) => request.includes('/resolve/'))
    .map((request) => request.split('/').at(-1))
  t.deepEqual([...new Set(files)], ['config.json'])
})

test('parameters are those that the run itself counts', async (t) => {
  for (const [recipe, start, lora] of [
    ['sft', sft, []],
    ['sft', sft, ['--lora-rank', '4']],
    ['reward', reward, []],
    ['reward', reward, ['--lora-rank', '4']],
  ] as const) {
    const argv = ['estimate', recipe, '--model', tiny, '--device', 'cpu', '--memory', '4GB', '--json']
    const { stdout } = await posttrain([...argv, ...lora])
    await using model = await CausalLM.load(tiny)
    const data =
      recipe === 'sft' ? [{ prompt: 'a', completion: 'b' }] : [{ prompt: 'a', chosen: 'b', rejected: 'c' }]
    const run = start({ model, data, maxSteps: 1, ...(lora.length > 0 && { lora: { rank: 4 } }) } as never)
    for await (const event of run as AsyncIterable<{ type: string }>) {
      if (event.type !== 'start') continue
      const { parameters, trainableParameters } = event as StartEvent
      t.like(JSON.parse(stdout), { parameters, trainableParameters }, `${recipe} ${lora.join(' ')}`)
      break
    }
  }
})

test('with --data the rows have their own lengths, and what does not fit exits with 1', async (t) => {
  const data = join(folder, 'rows.jsonl')
  const rows = Array.from({ length: 10 }, (_, i) => ({ prompt: 'ab', completion: 'c'.repeat(5 + 3 * i) }))
  writeFileSync(data, rows.map((row) => JSON.stringify(row)).join('\n'))
  const shared = ['--model', tiny, '--device', 'cpu', '--memory', '4GB', '--data', data]
  const argv = ['estimate', 'sft', ...shared, '--batch-size', '4', '--template', 'plain']
  const { stdout, code, stderr } = await posttrain([...argv, '--json'])
  t.is(code, 0, stderr)
  const { sizes, peak } = JSON.parse(stdout) as EstimateReport
  await using model = await CausalLM.load(tiny)
  const seen: number[] = []
  const run = sft({ model, data, batchSize: 4, epochs: 1, template: 'plain' })
  for await (const event of run) if (event.type === 'step') seen.push(event.tokens)
  const tokens = sizes.batch!.lengths.reduce((sum, length) => sum + length, 0)
  t.is(tokens, Math.max(...seen))
  t.true(sizes.tokens < 60)
  const limits = JSON.parse((await posttrain(['estimate', 'sft', ...shared.slice(0, -2), '--json'])).stdout)
  t.true(peak < limits.peak)
  const shown = await posttrain(argv)
  t.regex(
    shown.stdout,
    /4 rows with \d+ tokens in one backward, the largest batch of the data; its longest row/,
  )
  t.is((await posttrain([...argv.map((word) => (word === '4GB' ? '1MB' : word))])).code, 1)

  const grpoArgv = ['estimate', 'grpo', ...shared, '--json', '--max-new-tokens', '8', '--template', 'plain']
  const report = JSON.parse((await posttrain(grpoArgv)).stdout) as EstimateReport
  t.true(report.sizes.promptTokens < 20, String(report.sizes.promptTokens))
})

test('a probe runs real steps at these sizes, and allocates what was counted', async (t) => {
  const shapes: [string[], number][] = [
    [['sft', '--batch-size', '4', '--max-length', '128'], 4 * 128],
    [['dpo', '--batch-size', '2', '--max-length', '96', '--lora-rank', '4'], 4 * 96],
    [
      [
        'grpo',
        '--batch-size',
        '2',
        '--group-size',
        '2',
        '--max-prompt-length',
        '40',
        '--max-new-tokens',
        '8',
      ],
      0,
    ],
  ]
  for (const [argv, tokens] of shapes) {
    const shared = ['--model', tiny, '--device', 'cpu', '--memory', '4GB', '--json', '--probe']
    const { stdout, stderr, code } = await posttrain(['estimate', ...argv, ...shared])
    t.is(code, 0, stderr)
    const { probe, peak, largestBatch } = JSON.parse(stdout) as EstimateReport
    t.is(probe!.steps, 2)
    t.true(probe!.secondsPerStep > 0)
    // Words of two tokens may leave one place of a row empty.
    const taken = probe!.tokensPerStep
    if (tokens > 0) t.true(taken <= tokens && taken >= 0.98 * tokens, `${argv[0]}: ${taken}`)
    else
      t.true(probe!.seconds!.rollout > 0 && probe!.tokensPerStep > 4 * 40 && probe!.tokensPerStep <= 4 * 48)
    t.true(Math.abs(peak / probe!.peakBytes! - 1) <= 0.15, `${argv[0]}: ${peak} ${probe!.peakBytes}`)
    t.true(largestBatch!.documents > 0)
  }
})

test('wrong use is told in one sentence', async (t) => {
  const wrong = async (...argv: string[]) => await posttrain(['estimate', ...argv])
  t.like(await wrong('sft', '--model', large, '--memory', 'much'), {
    code: 2,
    stderr: 'posttrain estimate sft: --memory must be a size such as 24GB, got "much"\n',
  })
  t.like(await wrong('sft', '--model', large, '--device', 'cpu', '--dtype', 'bfloat16'), {
    code: 1,
    stderr: 'posttrain estimate sft: --dtype bfloat16 is not supported on the CPU: add --device cuda\n',
  })
  t.is((await wrong('sft')).code, 2)
  t.is((await wrong('nothing', '--model', large)).code, 2)
  const missing = await wrong('sft', '--model', join(folder, 'missing'), '--device', 'cpu')
  t.is(missing.code, 1)
  t.regex(missing.stderr, /missing does not exist; give a folder, or org\/name on the Hub\n$/)
})

test('estimate takes the flags of the recipe', (t) => {
  for (const recipe of RECIPE_NAMES) {
    const flags = flagsOf(estimateOptions(recipe).schema())
    t.deepEqual(
      flags.filter(({ required }) => required).map(({ name }) => name),
      ['model'],
    )
    for (const name of ['data', 'lora-rank', 'activation-checkpointing', 'memory', 'probe', 'device', 'json'])
      t.true(
        flags.some((flag) => flag.name === name),
        `${recipe} --${name}`,
      )
  }
})
