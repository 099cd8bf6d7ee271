// Run in a folder where posttrain was installed: trains, generates, aligns. Prints one JSON line.
//   node train.mjs MODEL_DIR STARTED   STARTED: Date.now() of whoever started this
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'

const [modelFolder, started] = process.argv.slice(2)
const before = performance.now()
const { CausalLM, generate, PosttrainError, ppo, sft } = await import('posttrain')
const importMs = performance.now() - before
const { crossEntropy } = await import('posttrain/losses')

const { loss } = await crossEntropy(new Float32Array([0, 0, 0, 0]), new Int32Array([1, 0]))
assert.ok(Math.abs(loss - Math.LN2) < 1e-6, `cross-entropy of even logits is ${loss}`)

const model = await CausalLM.load(modelFolder)
const data = Array.from({ length: 16 }, (_, n) => ({
  prompt: `${n}:`,
  completion: ` ${n % 2 ? 'odd' : 'even'}`,
}))
const run = sft({ model, data, maxSteps: 8, batchSize: 4, learningRate: 5e-3 })
const losses = []
let firstStepMs
for await (const event of run) {
  if (event.type !== 'step') continue
  firstStepMs ??= Date.now() - Number(started)
  losses.push(event.loss)
}
await run.finish()
assert.equal(losses.length, 8)
assert.ok(losses.at(-1) < losses[0] - 0.1, `the loss went from ${losses[0]} to ${losses.at(-1)}`)

const [completion] = await generate(model, ['3:'], { maxNewTokens: 4 })
assert.ok(completion.tokenIds.length >= 1 && completion.tokenIds.length <= 4, completion.text)

const policy = ppo({
  model,
  reward: (samples) => samples.map(({ text }) => text.length),
  data: data.map(({ prompt }) => ({ prompt })),
  lora: { rank: 2 },
  iterations: 2,
  batchSize: 4,
  maxNewTokens: 4,
})
const scores = []
for await (const event of policy) if (event.type === 'step') scores.push(event.score)
await policy.finish()
assert.ok(scores.length === 2 && scores.every(Number.isFinite), `scores are ${scores}`)

await assert.rejects(async () => sft({ model, data, learningrate: 1 }), PosttrainError)
await model.dispose()

// Only the installed package of libtorch may have been opened.
const maps = readFileSync('/proc/self/maps', 'utf8')
const libtorch = [...new Set(maps.match(/\S*libtorch_cpu\.so\S*/g))]
console.log(JSON.stringify({ node: process.version, importMs, firstStepMs, losses, scores, libtorch }))
