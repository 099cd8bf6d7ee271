import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { sft } from '../../lib/train/sft.js'
import { slopeOf } from '../helpers/slope.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

// What V8 has not collected yet is no leak.
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const base = { template: 'plain', maxLength: 64, learningRate: 1e-4 } as const

test.serial('the event loop stays free while steps are computed', async (t) => {
  await using model = await tinyModel()
  const run = sft({ ...base, model, data: instructionRows(512), batchSize: 128, maxSteps: 12 })
  const delay = monitorEventLoopDelay({ resolution: 5 })
  let slowest = 0
  for await (const event of run) {
    // Loading the library and the data comes before; what is measured is the training.
    if (event.type === 'start') delay.enable()
    if (event.type === 'step') slowest = Math.max(slowest, event.tokens / event.tokensPerSecond)
  }
  delay.disable()
  const [p99, max] = [delay.percentile(99), delay.max].map((nanoseconds) => (nanoseconds / 1e6).toFixed(1))
  t.log(`event loop: p99 ${p99} ms, maximum ${max} ms`)
  t.true(delay.max / 1e6 < 50, `${delay.max / 1e6} ms`)
  // The steps themselves are longer than that, so a step on the main thread would have been seen.
  t.true(slowest > 0.05, `${slowest} s`)
})

test.serial('5,000 tiny steps: resident memory does not grow with the steps', async (t) => {
  await using model = await tinyModel()
  const run = sft({ ...base, model, data: instructionRows(64), batchSize: 2, maxSteps: 5000 })
  const samples: [step: number, bytes: number][] = []
  for await (const event of run) {
    // Before that V8 still compiles and the allocators still find their sizes: megabytes come and go.
    if (event.type !== 'step' || event.step < 3000 || event.step % 100 !== 0) continue
    collectGarbage()
    samples.push([event.step, process.memoryUsage.rss()])
  }
  t.is(samples.length, 21)
  const slope = slopeOf(samples)
  t.log(`${slope.toFixed(0)} bytes a step`)
  t.true(slope < 1000, `${slope} bytes a step: ${samples.join(' ')}`)
})
