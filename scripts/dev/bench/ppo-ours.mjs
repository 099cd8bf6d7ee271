// Our side of `scripts/dev/bench/ppo.mjs`, as a process of its own. node ppo-ours.mjs WORK.json -> one JSON line
import { readFileSync } from 'node:fs'
import { CausalLM, ppo, RewardModel } from '../../../dist/lib/index.js'

const { policy, judge, prompts, lora, batch, answer, epochs, miniBatches, iterations, threads } = JSON.parse(
  readFileSync(process.argv[2], 'utf8'),
)
const model = await CausalLM.load(policy, { device: 'cpu', threads })
const reward = await RewardModel.load(judge, { device: 'cpu' })
const seconds = []
const lengths = []
let since = process.cpuUsage()
const run = ppo({
  model,
  reward,
  data: prompts.map((prompt) => ({ prompt })),
  ...(lora && { lora: { rank: 16 } }),
  batchSize: batch,
  maxNewTokens: answer,
  epochs,
  miniBatches,
  iterations,
  learningRate: 1e-6,
})
for await (const event of run) {
  if (event.type !== 'step') continue
  if (event.updates !== epochs * miniBatches) throw new Error(`${event.updates} optimizer steps`)
  // CPU time, which other processes do not disturb, split as the clock on the wall splits it.
  const { user, system } = process.cpuUsage(since)
  since = process.cpuUsage()
  const wall = Object.values(event.seconds).reduce((sum, value) => sum + value, 0)
  const share = (user + system) / 1e6 / wall
  seconds.push(
    Object.fromEntries(Object.entries(event.seconds).map(([part, value]) => [part, value * share])),
  )
  lengths.push(event.responseLength)
}
process.stdout.write(
  `${JSON.stringify({ seconds, lengths, peakBytes: process.resourceUsage().maxRSS * 1024 })}\n`,
)
