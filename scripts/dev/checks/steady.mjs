// node scripts/dev/checks/steady.mjs [--steps 10000] [--threads 1]
// Two numbers of a training: how long the event loop is held up while steps are computed, and how much resident memory
// grows with the steps. Tiny models, so that steps are many; the first measurement has larger batches, so that each step
// would be seen if it ran on the main thread.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const { values } = parseArgs({
  options: { steps: { type: 'string', default: '10000' }, threads: { type: 'string', default: '1' } },
})
process.env.OMP_NUM_THREADS ??= values.threads
const { sft } = await import('../../../dist/lib/index.js')
const { slopeOf } = await import('../../../dist/test/helpers/slope.js')
const { instructionRows, tinyModel } = await import('../../../dist/test/helpers/tiny-training.js')
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

const base = { template: 'plain', maxLength: 64, learningRate: 1e-4 }
const milliseconds = (nanoseconds) => `${(nanoseconds / 1e6).toFixed(1)} ms`

async function delay() {
  const model = await tinyModel()
  const run = sft({ ...base, model, data: instructionRows(512), batchSize: 128, maxSteps: 200 })
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  const seconds = []
  for await (const event of run) {
    // Loading the library and the data comes before; what is measured is the training.
    if (event.type === 'start') histogram.enable()
    if (event.type === 'step') seconds.push(event.tokens / event.tokensPerSecond)
  }
  histogram.disable()
  await model.dispose()
  seconds.sort((a, b) => a - b)
  const [p50, p99] = [histogram.percentile(50), histogram.percentile(99)].map(milliseconds)
  const step = milliseconds(seconds[seconds.length >> 1] * 1e9)
  console.log(
    `event loop in ${seconds.length} steps of ${step}: median ${p50}, p99 ${p99}, maximum ${milliseconds(histogram.max)}`,
  )
}

async function memory(steps) {
  const model = await tinyModel()
  const run = sft({ ...base, model, data: instructionRows(64), batchSize: 2, maxSteps: steps })
  const points = []
  for await (const event of run) {
    if (event.type !== 'step' || event.step < steps / 10 || event.step % (steps / 100) !== 0) continue
    collectGarbage()
    points.push([event.step, process.memoryUsage().rss])
  }
  await model.dispose()
  const [first, last] = [points[0][1], points.at(-1)[1]].map((bytes) => `${(bytes / 1e6).toFixed(1)} MB`)
  console.log(
    `resident memory in ${steps} steps: ${first} after a tenth of them, ${last} in the end, ${slopeOf(points).toFixed(0)} bytes a step`,
  )
}

await delay()
await memory(Number(values.steps))
