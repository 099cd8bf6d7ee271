// Runs one recipe on tiny models in a folder, going on from what is there, and prints each step; or saves the two models of
// the folder over one path, or merges an adapter over it, by turns. To be killed at any moment.
import { join } from 'node:path'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { dpo } from '../../lib/train/dpo.js'
import { ppo } from '../../lib/train/ppo.js'
import { sft } from '../../lib/train/sft.js'
import { wished, wishes } from '../helpers/tiny-policy.js'

const [job, folder] = [process.argv[2]!, process.argv[3]!]
await using model = await CausalLM.load(join(folder, job === 'merge' ? 'a' : 'start'), { threads: 1 })
const shared = {
  model,
  output: join(folder, 'run'),
  resume: true,
  learningRate: 1e-2,
  checkpoints: { everySteps: 1, keep: 2 },
}
const rows = wishes.map(({ prompt, wish }) => ({ prompt, completion: wish }))
const pairs = wishes.map(({ prompt, wish }) => ({ prompt, chosen: wish, rejected: 'c' }))
const runs = {
  sft: () => sft({ ...shared, data: rows, batchSize: 2, maxSteps: 10 }),
  lora: () => sft({ ...shared, data: rows, batchSize: 2, maxSteps: 10, lora: { rank: 2 } }),
  dpo: () => dpo({ ...shared, data: pairs, batchSize: 2, maxSteps: 10 }),
  ppo: () => ppo({ ...shared, data: wishes, reward: wished, batchSize: 2, iterations: 6, maxNewTokens: 4 }),
}
if (job in runs) {
  for await (const event of runs[job as keyof typeof runs]()) {
    // Synchronous for a pipe on Linux: it is told before the kill.
    if (event.type === 'step') process.stdout.write(`${event.step} ${event.loss}\n`)
  }
} else if (job === 'merge') {
  await model.loadAdapter('one', join(folder, 'adapter'))
  await model.mergeAdapter()
  for (let i = 0; i < 20; i++) await model.save(join(folder, 'target'), { overwrite: true })
} else {
  await using other = await CausalLM.load(join(folder, 'b'))
  for (let i = 0; i < 20; i++)
    await (i % 2 === 0 ? other : model).save(join(folder, 'target'), { overwrite: true })
}
