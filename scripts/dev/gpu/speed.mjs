// One measurement on a device: node scripts/dev/gpu/speed.mjs ceilings|sft|lora|qlora|decode DEVICE full|tiny
// The models are made by peer.py, which runs the same with transformers. Prints one line: SPEED and JSON.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { loadCore } from '../../../dist/lib/addon/load.js'
import { AdamW, CausalLM, generate } from '../../../dist/lib/index.js'

const [work, device, size] = process.argv.slice(2)
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** Median seconds of a call, after three that do not count. */
async function timed(run, rounds = 7) {
  const seconds = []
  for (let i = -3; i < rounds; i++) {
    const from = performance.now()
    await run()
    if (i >= 0) seconds.push((performance.now() - from) / 1000)
  }
  return { seconds: median(seconds), spread: [Math.min(...seconds), Math.max(...seconds)] }
}

if (work === 'ceilings') process.exit(0)
const shape = work === 'sft' || work === 'decode' ? 'small' : 'large'
const folder = join(process.env.TMPDIR ?? '/tmp', `posttrain-gpu-${shape}-${size}`)
if (!existsSync(join(folder, 'config.json')))
  execFileSync('python3', ['scripts/dev/gpu/peer.py', 'make', device, size, shape], { stdio: 'inherit' })
for (const file of ['tokenizer.json', 'tokenizer_config.json'])
  cpSync(join('test/fixtures/models/llama', file), join(folder, file))

const begun = performance.now()
const model = await CausalLM.load(folder, { device, ...(work === 'qlora' && { quantize: 'nf4' }) })
const loadSeconds = (performance.now() - begun) / 1000
const core = await loadCore()
const vocabulary = model.vocabSize
const result = { work, dtype: model.dtype, loadSeconds }
if (work === 'decode') {
  const rows = size === 'tiny' ? 4 : 32
  const prompts = Array.from({ length: rows }, (_, r) =>
    Int32Array.from({ length: 64 }, (_, i) => (i * 31 + r * 17) % Math.min(vocabulary, 60)),
  )
  const tokens = size === 'tiny' ? 8 : 64
  const options = { maxNewTokens: tokens, stopIds: [] }
  const { seconds, spread } = await timed(() => generate(model, prompts, options), 3)
  Object.assign(result, { seconds, spread, perSecond: (rows * tokens) / seconds })
} else {
  if (work !== 'sft') await model.addAdapter('a', { rank: 16 })
  const [documents, length] = size === 'tiny' ? [4, 32] : [16, 256]
  const ids = Int32Array.from({ length: documents * length }, (_, i) => (i * 31 + 7) % vocabulary)
  const offsets = Int32Array.from({ length: documents + 1 }, (_, d) => d * length)
  const batch = { inputIds: ids, labels: ids, offsets }
  const optimizer = new AdamW(model, { learningRate: 1e-5 })
  await optimizer.zeroGrad()
  result.firstLoss = (await model.backward(batch, { kind: 'crossEntropy' })).loss
  const { seconds, spread } = await timed(async () => {
    await optimizer.zeroGrad()
    await model.backward(batch, { kind: 'crossEntropy' })
    await optimizer.step({ maxGradNorm: 1 })
  })
  Object.assign(result, { seconds, spread, perSecond: ids.length / seconds })
}
const { cuda, peakAllocatedBytes } = await core.info()
result.peakBytes = cuda.devices[0]?.peakAllocatedBytes ?? peakAllocatedBytes
console.log(`SPEED ${JSON.stringify(result)}`)
process.exit(0)
