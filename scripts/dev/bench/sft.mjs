// node scripts/dev/bench/sft.mjs --model DIR --data ROWS [--threads 1] [--batch 4] [--steps 12] [--rounds 3] [--python python3]
// Ours against transformers + TRL's SFTTrainer (its defaults, and its best settings for a CPU) on the same rows in the
// same order, alternating in one run; prints ratios of tokens/s and of peak memory, and how far the losses differ.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { DataLoader, plainTemplate, Template, Tokenizer } from '../../../dist/lib/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    threads: { type: 'string', default: '1' },
    batch: { type: 'string', default: '4' },
    steps: { type: 'string', default: '12' },
    rounds: { type: 'string', default: '3' },
    'max-length': { type: 'string', default: '512' },
    python: { type: 'string', default: 'python3' },
  },
})
if (!values.model || !values.data) {
  process.stderr.write(
    'usage: node scripts/dev/bench/sft.mjs --model DIR --data ROWS [--threads 1] [--batch 4] [--steps 12] [--rounds 3] [--python python3]\n',
  )
  process.exit(2)
}
const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const [batch, steps] = [Number(values.batch), Number(values.steps)]

const tokenizer = await Tokenizer.load(values.model)
const template = tokenizer.chatTemplate === null ? plainTemplate : Template.fromSource(tokenizer.chatTemplate)
const loader = new DataLoader(values.data, {
  tokenizer,
  template,
  maxLength: Number(values['max-length']),
  batchSize: 1,
  shuffle: true,
  seed: 0,
})
const rows = []
for await (const { inputIds, labels } of loader.epoch(0)) {
  rows.push({ inputIds: [...inputIds], labels: [...labels] })
  if (rows.length === batch * steps) break
}
if (rows.length < batch * steps)
  throw new Error(`${values.data} has ${rows.length} rows, ${batch * steps} are needed`)
const scratch = mkdtempSync(join(tmpdir(), 'posttrain-bench-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
const path = join(scratch, 'rows.json')
writeFileSync(path, JSON.stringify(rows))
const tokensOf = (step) =>
  rows.slice(step * batch, (step + 1) * batch).reduce((sum, { inputIds }) => sum + inputIds.length, 0)

const sides = {
  ours: [
    process.execPath,
    [here('sft-ours.mjs'), values.model, path, values.threads, values.batch, values.steps],
  ],
  defaults: [
    values.python,
    [here('sft-trl.py'), values.model, path, 'defaults', values.threads, values.batch, values.steps],
  ],
  best: [
    values.python,
    [here('sft-trl.py'), values.model, path, 'best', values.threads, values.batch, values.steps],
  ],
}
const results = { ours: [], defaults: [], best: [] }
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, [command, args]] of Object.entries(sides)) {
    const run = spawnSync(command, args, {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: { ...process.env, OMP_NUM_THREADS: values.threads, HF_HUB_OFFLINE: '1' },
    })
    if (run.status !== 0) throw new Error(`${name} failed:\n${run.stderr.slice(-3000)}`)
    const result = JSON.parse(run.stdout.trim().split('\n').at(-1))
    // The first two steps warm up allocators and caches on each side.
    let [tokens, seconds] = [0, 0]
    for (let step = 2; step < steps; step++) {
      tokens += tokensOf(step)
      seconds += result.seconds[step]
    }
    results[name].push({ ...result, tokensPerSecond: tokens / seconds })
    process.stderr.write(
      `round ${round + 1} ${name}: ${(tokens / seconds).toFixed(0)} tokens/s, peak ${(result.peakBytes / 2 ** 20).toFixed(0)} MB\n`,
    )
  }
}
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]
const lengths = rows.map(({ inputIds }) => inputIds.length)
process.stdout.write(
  `${values.model}: ${rows.length} rows of ${Math.min(...lengths)} to ${Math.max(...lengths)} tokens, batch ${batch}, ${values.threads} threads\n`,
)
for (const side of ['defaults', 'best']) {
  const ratios = results.ours.map(
    ({ tokensPerSecond }, i) => tokensPerSecond / results[side][i].tokensPerSecond,
  )
  const memory =
    median(results[side].map(({ peakBytes }) => peakBytes)) /
    median(results.ours.map(({ peakBytes }) => peakBytes))
  const apart = Math.max(
    ...results.ours[0].losses.map((loss, i) => Math.abs(loss - results[side][0].losses[i])),
  )
  process.stdout.write(
    `ours against TRL ${side}: ${median(ratios).toFixed(2)} times the tokens/s (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}), ` +
      `1/${memory.toFixed(2)} of the peak memory, losses differ by at most ${apart.toExponential(1)}\n`,
  )
}
