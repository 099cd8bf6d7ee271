// Trains the first two stages of the demo with each optimizer, which has to reach the demo's exact match with all of them,
// and times a step of each on one thread.
//   node scripts/dev/checks/optimizers.mjs [--only adamw8bit] [--times]
// --times: only the times.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { AdamW, CausalLM, pretrain, sft, Tokenizer } from '../../../dist/lib/index.js'
import { CONFIG, exactMatch, GATE, rowsOf, TRAINING } from '../../demo/from-scratch.mjs'

const { values } = parseArgs({
  options: { only: { type: 'string' }, times: { type: 'boolean', default: false } },
})
const MOMENTS = { adamw: 'float32', adamw16bit: 'bfloat16', adamw8bit: '8bit' }
const names = Object.keys(MOMENTS).filter((name) => values.only === undefined || name === values.only)
if (names.length === 0) {
  console.error(`--only must be one of ${Object.keys(MOMENTS).join(', ')}`)
  process.exit(2)
}
const demo = fileURLToPath(new URL('../../demo', import.meta.url))
const tokenizer = await Tokenizer.load(demo)
const create = (config = CONFIG) => CausalLM.create(config, { seed: 1, tokenizer, device: 'cpu', threads: 1 })
const cpuSeconds = () => process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6

async function finish(run) {
  for await (const _ of run);
}

async function learn(optimizer) {
  const output = mkdtempSync(join(tmpdir(), 'posttrain-optimizers-'))
  const model = await create()
  const started = cpuSeconds()
  const given = { ...TRAINING, optimizer, model }
  await finish(
    pretrain({
      ...given,
      data: join(demo, 'corpus.jsonl'),
      maxSteps: 60,
      warmupSteps: 15,
      output: join(output, 'pretrain'),
    }),
  )
  await finish(
    sft({
      ...given,
      data: join(demo, 'train.jsonl'),
      template: 'plain',
      maxSteps: 1500,
      warmupSteps: 30,
      output: join(output, 'sft'),
    }),
  )
  const seconds = cpuSeconds() - started
  const { right, rows, tasks } = await exactMatch(model, rowsOf('held-out.jsonl'))
  await model.dispose()
  rmSync(output, { recursive: true })
  const worst = Math.min(...Object.values(tasks).map((task) => task.right / task.rows))
  const passed = right / rows >= GATE.all && worst >= GATE.task
  console.log(
    `${optimizer}: exact match ${right} of ${rows}, worst task ${(100 * worst).toFixed(0)} %, ${seconds.toFixed(0)} s of CPU time: ${passed ? 'passed' : 'FAILED'}`,
  )
  if (!passed) process.exitCode = 1
}

/** Nanoseconds of one thread for a parameter and a step, the median of some, alternating. */
async function time() {
  const shape = { hidden_size: 512, intermediate_size: 1536, num_hidden_layers: 8 }
  const model = await create({ ...CONFIG, ...shape })
  const inputIds = Int32Array.from({ length: 16 }, (_, i) => i)
  const batch = { inputIds, labels: inputIds, offsets: Int32Array.of(0, 16) }
  await model.backward(batch, { kind: 'crossEntropy' })
  let count = 0
  for (const { shape } of await model.parameters()) count += shape.reduce((product, n) => product * n, 1)
  const optimizers = names.map((name) => new AdamW(model, { learningRate: 1e-6, moments: MOMENTS[name] }))
  const times = names.map(() => [])
  for (let round = 0; round < 12; round++) {
    for (const [i, optimizer] of optimizers.entries()) {
      const started = cpuSeconds()
      await optimizer.step({ maxGradNorm: 1 })
      if (round >= 3) times[i].push(cpuSeconds() - started)
    }
  }
  for (const [i, name] of names.entries()) {
    const median = times[i].toSorted((a, b) => a - b)[4]
    console.log(
      `${name}: ${((median / count) * 1e9).toFixed(2)} ns a parameter (${(count / 1e6).toFixed(0)} million)`,
    )
  }
  for (const optimizer of optimizers) await optimizer.dispose()
  await model.dispose()
}

await time()
if (!values.times) for (const name of names) await learn(name)
