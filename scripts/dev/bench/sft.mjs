// node scripts/dev/bench/sft.mjs --model DIR --data ROWS [--threads 1] [--batch 4] [--steps 12] [--rounds 3] [--python python3]
// Ours against transformers + TRL's SFTTrainer (its defaults, and its best settings for a CPU) on the same rows in the
// same order, alternating in one run; prints ratios of tokens/s and of peak memory, how far the losses differ, and which
// fraction of the machine's peak each reaches: products of float32 matrices, measured between the rounds on as many threads.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
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
/** Parameters of the matrices in the blocks, of the output projection, and the sizes of attention. */
function sizesOf(model) {
  const file = openSync(join(model, 'model.safetensors'))
  const length = Buffer.alloc(8)
  readSync(file, length, 0, 8, 0)
  const header = Buffer.alloc(Number(length.readBigUInt64LE()))
  readSync(file, header, 0, header.length, 8)
  let blocks = 0
  for (const [name, { shape }] of Object.entries(JSON.parse(header.toString())))
    if (shape?.length === 2 && !/embed|wte|wpe|lm_head/.test(name)) blocks += shape[0] * shape[1]
  const { hidden_size, n_embd, num_hidden_layers, n_layer, vocab_size, ...config } = JSON.parse(
    readFileSync(join(model, 'config.json'), 'utf8'),
  )
  const [hidden, layers] = [hidden_size ?? n_embd, num_hidden_layers ?? n_layer]
  const heads = config.head_dim ? config.head_dim * config.num_attention_heads : hidden
  return { blocks, head: vocab_size * hidden, heads, layers }
}

const sizes = sizesOf(values.model)
/**
 * Operations that a step needs: 2 a parameter and token forward and twice that backward, the output projection at labels
 * alone, and the lower triangle of attention's two products.
 */
const flopsOf = (step) =>
  rows.slice(step * batch, (step + 1) * batch).reduce((sum, { inputIds: { length }, labels }) => {
    const labeled = labels.slice(1).filter((label) => label >= 0).length
    return sum + 6 * (sizes.blocks * length + sizes.head * labeled + sizes.layers * sizes.heads * length ** 2)
  }, 0)

/** Operations a second of torch's product of two float32 matrices of 2048 x 2048, the best of ten. */
function measuredPeak() {
  const program = `import time, torch
torch.set_num_threads(${values.threads})
a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
best = float('inf')
for _ in range(10):
    begun = time.perf_counter()
    a @ b
    best = min(best, time.perf_counter() - begun)
print(2 * 2048**3 / best)`
  const run = spawnSync(values.python, ['-c', program], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`the peak was not measured:\n${run.stderr.slice(-3000)}`)
  return Number(run.stdout)
}

const peaks = []
const results = { ours: [], defaults: [], best: [] }
for (let round = 0; round < Number(values.rounds); round++) {
  peaks.push(measuredPeak())
  for (const [name, [command, args]] of Object.entries(sides)) {
    const run = spawnSync(command, args, {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: { ...process.env, OMP_NUM_THREADS: values.threads, HF_HUB_OFFLINE: '1' },
    })
    if (run.status !== 0) throw new Error(`${name} failed:\n${run.stderr.slice(-3000)}`)
    const result = JSON.parse(run.stdout.trim().split('\n').at(-1))
    // The first two steps warm up allocators and caches on each side.
    let [tokens, seconds, flops] = [0, 0, 0]
    for (let step = 2; step < steps; step++) {
      tokens += tokensOf(step)
      flops += flopsOf(step)
      seconds += result.seconds[step]
    }
    results[name].push({ ...result, tokensPerSecond: tokens / seconds, flopsPerSecond: flops / seconds })
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
const peak = Math.max(...peaks)
const fractions = Object.entries(results).map(
  ([name, runs]) =>
    `${name === 'ours' ? 'ours' : `TRL ${name}`} ${(median(runs.map(({ flopsPerSecond }) => flopsPerSecond)) / peak).toFixed(2)}`,
)
process.stdout.write(
  `fraction of the peak of ${(peak / 1e9).toFixed(0)} GFLOP/s (float32 matrix product, ${values.threads} threads): ${fractions.join(', ')}\n`,
)
