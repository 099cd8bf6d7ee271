// A real model against PyTorch and PEFT: losses of the recipes' steps on the same rows, from the same adapter and head.
// node scripts/dev/real/peft.mjs --model DIR [--python PYTHON] [--steps 10] [--threads N]
// LoRA fine-tuning, DPO (which starts at ln 2) and the reward model, that one with all weights too. One line a number;
// fails where one misses its bound.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CausalLM, dpo, RewardModel, reward, sft } from '../../../dist/lib/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    steps: { type: 'string', default: '10' },
    threads: { type: 'string' },
  },
})
if (!values.model) {
  process.stderr.write(
    'usage: node scripts/dev/real/peft.mjs --model DIR [--python PYTHON] [--steps 10] [--threads N]\n',
  )
  process.exit(2)
}
const LOSS_BOUND = 5e-5
const START_BOUND = 1e-6
const BATCH = 2
const BETA = 0.1
const SEED = 3
const steps = Number(values.steps)

/** Every fifth conversation of the demo; the rejected response of a pair is one to another question. */
const path = fileURLToPath(new URL('../../demo/real-train.jsonl', import.meta.url))
const conversations = readFileSync(path, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line).messages)
const turns = (i) => conversations[(5 * i) % conversations.length]
const rows = Array.from({ length: BATCH * steps }, (_, i) => ({ messages: turns(i) }))
const pairs = rows.map(({ messages }, i) => {
  const [question, { content }] = messages
  let other = i + 1
  while (turns(other)[0].content === question.content || turns(other)[1].content === content) other++
  return { prompt: [question], chosen: content, rejected: turns(other)[1].content }
})
const options = { batchSize: BATCH, maxSteps: steps, schedule: 'constant', shuffle: false, seed: SEED }
const rates = { sft: 2e-4, dpo: 1e-4, reward: 1e-4, rewardWhole: 1e-5 }

const folder = mkdtempSync(join(tmpdir(), 'posttrain-peft-'))
const lossesOf = async (run) => {
  const losses = []
  for await (const event of run) if (event.type === 'step') losses.push(event.loss)
  await run.finish()
  return losses
}
const started = performance.now()
const ours = {}
const model = await CausalLM.load(values.model, {
  device: 'cpu',
  ...(values.threads && { threads: Number(values.threads) }),
})
// The recipes add the same one from the same seed.
const lora = { rank: 16 }
await model.addAdapter('start', { ...lora, seed: SEED })
await model.saveAdapter(join(folder, 'adapter'))
await model.setAdapter(null)
ours.sft = await lossesOf(sft({ model, data: rows, lora, learningRate: rates.sft, ...options }))
await model.setAdapter(null)
ours.dpo = await lossesOf(dpo({ model, data: pairs, lora, beta: BETA, learningRate: rates.dpo, ...options }))
await model.setAdapter(null)
const judge = await RewardModel.fromCausalLM(model, { seed: SEED })
const head = [...(await judge.getParameter('score.weight')).values]
await judge.addAdapter('judge', { ...lora, seed: SEED })
await judge.saveAdapter(join(folder, 'judge'))
ours.reward = await lossesOf(reward({ model: judge, data: pairs, learningRate: rates.reward, ...options }))
await judge.dispose()
await model.dispose()
const language = await CausalLM.load(values.model, { device: 'cpu' })
const whole = await RewardModel.fromCausalLM(language, { seed: SEED })
await language.dispose()
ours.rewardWhole = await lossesOf(
  reward({ model: whole, data: pairs, learningRate: rates.rewardWhole, ...options }),
)
await whole.dispose()
const seconds = (performance.now() - started) / 1000

writeFileSync(
  join(folder, 'in.json'),
  JSON.stringify({
    rows,
    pairs,
    head,
    rates,
    batch: BATCH,
    beta: BETA,
    maxGradNorm: 1,
    threads: values.threads,
  }),
)
const script = fileURLToPath(new URL('peft-pytorch.py', import.meta.url))
const run = spawnSync(values.python, [script, values.model, folder], { stdio: ['ignore', 2, 2] })
if (run.status !== 0) process.exit(1)
const theirs = JSON.parse(readFileSync(join(folder, 'out.json'), 'utf8'))
rmSync(folder, { recursive: true })

let missed = false
const tell = (what, difference, bound, more) => {
  const ok = difference <= bound
  missed ||= !ok
  console.log(`${what}: ${difference.toExponential(2)} (at most ${bound})${more}${ok ? '' : ', MISSED'}`)
}
const names = {
  sft: 'fine-tuning with LoRA',
  dpo: 'DPO with LoRA',
  reward: 'reward model with LoRA',
  rewardWhole: 'reward model, all weights',
}
for (const [name, what] of Object.entries(names)) {
  const losses = ours[name]
  if (losses.length !== steps || theirs[name].length !== steps) throw new Error(`${what}: not ${steps} steps`)
  const worst = Math.max(...losses.map((loss, i) => Math.abs(loss - theirs[name][i])))
  tell(
    `${what}, largest difference of a loss in ${steps} steps`,
    worst,
    LOSS_BOUND,
    `; loss ${losses[0].toFixed(4)} to ${losses.at(-1).toFixed(4)}`,
  )
}
tell('DPO, first loss against ln 2', Math.abs(ours.dpo[0] - Math.log(2)), START_BOUND, '')
console.log(`${seconds.toFixed(0)} s here, ${theirs.seconds.toFixed(0)} s in PyTorch`)
process.exitCode = missed ? 1 : 0
