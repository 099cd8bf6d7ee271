// node scripts/dev/bench/ppo.mjs --model DIR [--lora] [--batch 8] [--prompt 64] [--answer 64] [--epochs 4] [--mini-batches 1]
//   [--iterations 3] [--rounds 3] [--threads 1] [--python PYTHON with trl==1.9.0]
// One iteration of PPO, ours against TRL's PPOTrainer (its defaults, and without activation checkpointing), alternating
// in one run: the same weights, lengths, epochs and optimizer steps. Answers have a forced length: the token that ends
// them is made one that is never said. Prints ratios of CPU seconds, split in rollout, scoring and update.
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CausalLM, RewardModel, Tokenizer } from '../../../dist/lib/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    lora: { type: 'boolean', default: false },
    batch: { type: 'string', default: '8' },
    prompt: { type: 'string', default: '64' },
    answer: { type: 'string', default: '64' },
    epochs: { type: 'string', default: '4' },
    'mini-batches': { type: 'string', default: '1' },
    iterations: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: '1' },
    python: { type: 'string', default: 'python3' },
    sides: { type: 'string', default: 'ours,defaults,best' },
  },
})
if (!values.model) {
  process.stderr.write(
    'usage: node scripts/dev/bench/ppo.mjs --model DIR [--lora] ... (see the head of scripts/dev/bench/ppo.mjs)\n',
  )
  process.exit(2)
}
const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'posttrain-bench-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))

/** The model with an end token that it does not say; its weights are linked, or made where the folder has none. */
async function withoutEnd(folder, target) {
  cpSync(folder, target, { recursive: true, filter: (path) => !path.endsWith('.safetensors') })
  const tokenizer = await Tokenizer.load(folder)
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  const own = [config.eos_token_id, config.pad_token_id].flat()
  const end = tokenizer.specialTokens.find(({ id }) => id !== tokenizer.eosId && !own.includes(id))
  const set = (name, fields) => {
    const path = join(target, name)
    const before = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}
    writeFileSync(path, JSON.stringify({ ...before, ...fields }))
  }
  set('config.json', { eos_token_id: end.id, pad_token_id: end.id })
  set('generation_config.json', { eos_token_id: end.id, pad_token_id: end.id })
  set('tokenizer_config.json', { eos_token: end.content, pad_token: end.content })
  const weights = readdirSync(folder).filter((name) => /safetensors/.test(name))
  for (const name of weights) symlinkSync(resolve(folder, name), join(target, name))
  if (weights.length > 0) return
  const made = join(scratch, 'made')
  const model = await CausalLM.create(JSON.parse(readFileSync(join(target, 'config.json'), 'utf8')), {
    tokenizer: await Tokenizer.load(target),
    seed: 0,
  })
  await model.save(made)
  await model.dispose()
  cpSync(made, target, { recursive: true, filter: (path) => path === made || path.endsWith('.safetensors') })
}

const policy = join(scratch, 'policy')
const judge = join(scratch, 'judge')
await withoutEnd(values.model, policy)
const tokenizer = await Tokenizer.load(policy)
const trunk = await CausalLM.load(policy)
const scored = await RewardModel.fromCausalLM(trunk, { seed: 1 })
const spare = tokenizer.specialTokens.findLast(({ id }) => !trunk.stopIds.includes(id))
await scored.save(judge, { padToken: spare.content })
await scored.dispose()
await trunk.dispose()

// Prompts of exactly so many tokens: words are added until they fit.
const [batch, length] = [Number(values.batch), Number(values.prompt)]
const words = readFileSync(here('../../../README.md'), 'utf8').split(/\s+/)
const prompts = Array.from({ length: 4 * batch }, (_, i) => {
  for (let at = (i * 37) % words.length, text = ''; ; at++) {
    const longer = `${text}${text && ' '}${words[at % words.length].replace(/[^\w]/g, '') || 'a'}`
    const size = tokenizer.prefixIds.length + tokenizer.encode(longer, { first: true }).length
    if (size === length) return longer
    if (size < length) text = longer
  }
})
const work = {
  policy,
  judge,
  prompts,
  promptIds: prompts.map((text) => [...tokenizer.prefixIds, ...tokenizer.encode(text, { first: true })]),
  lora: values.lora,
  batch,
  answer: Number(values.answer),
  epochs: Number(values.epochs),
  miniBatches: Number(values['mini-batches']),
  iterations: Number(values.iterations),
  threads: Number(values.threads),
}
writeFileSync(join(scratch, 'work.json'), JSON.stringify(work))

const python = (kind) => [values.python, [here('ppo-trl.py'), join(scratch, 'work.json'), kind]]
const commands = {
  ours: [process.execPath, [here('ppo-ours.mjs'), join(scratch, 'work.json')]],
  defaults: python('defaults'),
  best: python('best'),
}
const sides = values.sides.split(',')
const results = Object.fromEntries(sides.map((side) => [side, []]))
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]
const PARTS = ['rollout', 'score', 'update', 'total']
for (let round = 0; round < Number(values.rounds); round++) {
  for (const side of sides) {
    const [command, args] = commands[side]
    const run = spawnSync(command, args, {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: {
        ...process.env,
        OMP_NUM_THREADS: values.threads,
        HF_HUB_OFFLINE: '1',
        TRL_EXPERIMENTAL_SILENCE: '1',
      },
    })
    if (run.status !== 0) throw new Error(`${side} failed:\n${run.stderr.slice(-3000)}`)
    const { seconds, peakBytes } = JSON.parse(run.stdout.trim().split('\n').at(-1))
    // The first iteration warms up.
    const later = seconds
      .slice(1)
      .map((each) => ({ ...each, total: each.rollout + each.score + each.update }))
    const means = Object.fromEntries(PARTS.map((part) => [part, median(later.map((each) => each[part]))]))
    results[side].push({ ...means, peakBytes })
    const told = PARTS.map((part) => `${part} ${means[part].toFixed(2)}`).join(', ')
    process.stderr.write(`round ${round + 1} ${side}: ${told} s, peak ${(peakBytes / 1e9).toFixed(2)} GB\n`)
  }
}
process.stdout.write(
  `${values.model}: PPO with ${values.lora ? 'LoRA' : 'four models'}, ${batch} x (${length} + ${work.answer}) tokens, ${work.epochs} epochs of ${work.miniBatches}, ${work.threads} threads\n`,
)
for (const side of sides.filter((name) => name !== 'ours' && results.ours)) {
  const ratios = PARTS.map((part) => {
    const each = results.ours.map((ours, i) => results[side][i][part] / ours[part])
    return `${part} ${median(each).toFixed(2)} (${Math.min(...each).toFixed(2)} to ${Math.max(...each).toFixed(2)})`
  })
  const memory =
    median(results[side].map((each) => each.peakBytes)) / median(results.ours.map((each) => each.peakBytes))
  process.stdout.write(
    `times faster than TRL ${side}: ${ratios.join(', ')}; its peak memory is ${memory.toFixed(2)} times ours\n`,
  )
}
