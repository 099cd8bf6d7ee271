// Our side of `scripts/dev/bench/sft.mjs`, as a process of its own, so that its peak memory is its own.
// node sft-ours.mjs MODEL ROWS.json THREADS BATCH STEPS -> one JSON line, as sft-trl.py prints
import { readFileSync } from 'node:fs'
import { AdamW, CausalLM } from '../../../dist/lib/index.js'

const [folder, path, threads, batch, steps] = process.argv.slice(2)
const rows = JSON.parse(readFileSync(path, 'utf8'))
const model = await CausalLM.load(folder, { device: 'cpu', threads: Number(threads) })
const optimizer = new AdamW(model, { learningRate: 1e-4, weightDecay: 0 })
const seconds = []
const losses = []
for (let step = 0; step < Number(steps); step++) {
  const started = performance.now()
  const own = rows.slice(step * batch, (step + 1) * batch)
  const offsets = [0]
  for (const { inputIds } of own) offsets.push(offsets.at(-1) + inputIds.length)
  const packed = {
    inputIds: Int32Array.from(own.flatMap(({ inputIds }) => inputIds)),
    labels: Int32Array.from(own.flatMap(({ labels }) => labels)),
    offsets: Int32Array.from(offsets),
  }
  await optimizer.zeroGrad()
  const { loss } = await model.backward(packed, { kind: 'crossEntropy' })
  await optimizer.step({ maxGradNorm: 1 })
  seconds.push((performance.now() - started) / 1000)
  losses.push(loss)
}
process.stdout.write(
  `${JSON.stringify({ seconds, losses, peakBytes: process.resourceUsage().maxRSS * 1024 })}\n`,
)
