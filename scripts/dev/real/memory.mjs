// The memory of PPO on a real model: node scripts/dev/real/memory.mjs --model DIR [--limit 4e9] [--threads N]
// Actor, critic, reward model and reference as low-rank updates and heads of one base; two iterations of 8 prompts of
// some 64 tokens, with responses of 64 at most. Prints the most that the process had resident; fails above the limit.
import { parseArgs } from 'node:util'
import { CausalLM, ppo, RewardModel } from '../../../dist/lib/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    limit: { type: 'string', default: '4e9' },
    threads: { type: 'string' },
  },
})
if (!values.model) {
  process.stderr.write('usage: node scripts/dev/real/memory.mjs --model DIR [--limit 4e9] [--threads N]\n')
  process.exit(2)
}
const things = ['the sea', 'the moon', 'bread', 'old towns', 'rivers', 'honey bees', 'glass', 'winter']
const data = things.map((thing) => ({
  messages: [
    {
      role: 'user',
      content: `Tell me in some detail what you know about ${thing}: where one meets with it, what it is good for, and why people have always written songs about it.`,
    },
  ],
}))
const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`
const resident = () => process.resourceUsage().maxRSS * 1024

const model = await CausalLM.load(values.model, {
  device: 'cpu',
  ...(values.threads && { threads: Number(values.threads) }),
})
console.log(`the model loaded: ${gigabytes(resident())}`)
const lora = { rank: 16 }
const reward = await RewardModel.fromCausalLM(model, { seed: 1 })
await reward.addAdapter('reward', { ...lora, seed: 1 })
const run = ppo({
  model,
  reward,
  data,
  lora,
  batchSize: data.length,
  maxNewTokens: 64,
  iterations: 2,
  epochs: 1,
})
const started = process.cpuUsage()
for await (const event of run) {
  if (event.type === 'step')
    console.log(
      `iteration ${event.step}: answers of ${event.responseLength.toFixed(0)} tokens, KL ${event.kl.toFixed(3)}, logProbGap ${event.logProbGap.toExponential(1)}, ${gigabytes(resident())}`,
    )
}
await run.finish()
const { user, system } = process.cpuUsage(started)
await reward.dispose()
await model.dispose()
const peak = resident()
const limit = Number(values.limit)
console.log(
  `PPO with one base: ${gigabytes(peak)} resident at most (limit ${gigabytes(limit)}), ${((user + system) / 1e6).toFixed(0)} CPU s${peak <= limit ? '' : ', MISSED'}`,
)
process.exitCode = peak <= limit ? 0 : 1
