// node scripts/dev/bench/generate.mjs --model DIR [--cases 1,8,32,mixed,load] [--prompt 64] [--answer 64] [--rounds 3]
//   [--threads 1] [--python python3]
// Greedy generation in float32, ours against transformers' generate, alternating in one run on the same random prompts:
// batches of 1, 8 and 32 rows of equal lengths, 32 rows with prompts of 8 to 128 tokens of which each ends after 4 to 128
// ('mixed'), and loading the folder against safetensors' load_file and a copy ('load', from the page cache). Prints the
// ratios of the seconds, on how many rows the ids agree, and fractions of what the machine was seen to do between the
// rounds, on as many threads: a product of float32 matrices, and reading memory.
import { spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    cases: { type: 'string', default: '1,8,32,mixed,load' },
    prompt: { type: 'string', default: '64' },
    answer: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: '1' },
    python: { type: 'string', default: 'python3' },
  },
})
if (!values.model) {
  process.stderr.write(
    'usage: node scripts/dev/bench/generate.mjs --model DIR ... (see the head of scripts/dev/bench/generate.mjs)\n',
  )
  process.exit(2)
}
const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const config = JSON.parse(readFileSync(join(values.model, 'config.json'), 'utf8'))
/** Weights, and the bytes of their files, by the headers. */
const [weights, bytes] = readdirSync(values.model)
  .filter((name) => name.endsWith('.safetensors'))
  .reduce(
    ([count, size], name) => {
      const path = join(values.model, name)
      const file = openSync(path)
      const length = Buffer.alloc(8)
      readSync(file, length)
      const header = Buffer.alloc(Number(length.readBigUInt64LE()))
      readSync(file, header)
      closeSync(file)
      const { __metadata__: _, ...tensors } = JSON.parse(header.toString())
      const sizes = Object.values(tensors).map(({ shape }) => shape.reduce((a, b) => a * b, 1))
      return [count + sizes.reduce((a, b) => a + b, 0), size + statSync(path).size]
    },
    [0, 0],
  )
const [prompt, answer] = [Number(values.prompt), Number(values.answer)]

/** A side that stays, with the model in its memory: answers a line with a line. */
function start(command, args, env = {}) {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: values.threads, HF_HUB_OFFLINE: '1', ...env },
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async ask(work) {
      child.stdin.write(`${JSON.stringify(work)}\n`)
      const { value, done } = await lines.next()
      if (done) throw new Error(`${command} ended`)
      return JSON.parse(value)
    },
    end: () => child.stdin.end(),
  }
}

let state = 1
/** Integers of [from, to], the same in every run. */
const random = (from, to) => {
  state = (state * 48271) % 2147483647
  return from + (state % (to - from + 1))
}
const row = (length, room) => ({
  ids: Array.from({ length }, () => random(0, config.vocab_size - 1)),
  room,
})
const mixed = () => Array.from({ length: 32 }, () => row(random(8, 128), random(4, 128)))
const cases = values.cases.split(',').map((name) => ({
  name,
  rows:
    name === 'load'
      ? []
      : name === 'mixed'
        ? mixed()
        : Array.from({ length: Number(name) }, () => row(prompt, answer)),
  ours: [],
  theirs: [],
}))

const ours = start(process.execPath, [here('generate-ours.mjs'), values.model, values.threads])
const theirs = start(values.python, [here('generate-transformers.py'), values.model, values.threads])
// Memory is read fastest from large pages.
const machine = start(values.python, [here('generate-transformers.py'), 'none', values.threads], {
  THP_MEM_ALLOC_ENABLE: '1',
})
const seen = []
for (let round = 0; round < Number(values.rounds); round++) {
  seen.push(await machine.ask({ kind: 'machine' }))
  for (const each of cases) {
    const work = each.name === 'load' ? { kind: 'load' } : { kind: 'generate', rows: each.rows }
    each.ours.push(await ours.ask(work))
    each.theirs.push(await theirs.ask(work))
    const told = (list) => `${list.at(-1).seconds.toFixed(2)} s`
    process.stderr.write(
      `round ${round + 1}, ${each.name}: ours ${told(each.ours)}, theirs ${told(each.theirs)}\n`,
    )
  }
}
ours.end()
theirs.end()
machine.end()

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]
const [peak, bandwidth] = ['flops', 'bandwidth'].map((name) => Math.max(...seen.map((each) => each[name])))
process.stdout.write(
  `${values.model}, float32, ${values.threads} threads; the machine: ${(peak / 1e9).toFixed(0)} GFLOP/s, reads ${(bandwidth / 1e9).toFixed(1)} GB/s\n`,
)
for (const { name, rows, ours: mine, theirs: other } of cases) {
  const ratios = mine.map(({ seconds }, i) => other[i].seconds / seconds)
  const spread = `${median(ratios).toFixed(2)} times (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`
  const seconds = median(mine.map((each) => each.seconds))
  if (name === 'load') {
    process.stdout.write(
      `load: ${spread} as fast as load_file and a copy, ${(bytes / seconds / 1e9).toFixed(2)} GB/s\n`,
    )
    continue
  }
  // A step reads every weight once; a token costs two operations a weight, a prompt's without the output projection.
  const steps = Math.max(...rows.map(({ room }) => room))
  const tokens = rows.reduce((sum, { room }) => sum + room, 0)
  const read = rows.reduce((sum, { ids }) => sum + ids.length - 1, 0)
  const blocks = weights - config.vocab_size * config.hidden_size
  const operations = 2 * (tokens * weights + read * blocks)
  const agreeing = rows.filter((_, i) => `${mine[0].ids[i]}` === `${other[0].ids[i]}`).length
  process.stdout.write(
    `${name}: ${spread} the tokens/s of generate, ${(tokens / seconds).toFixed(0)} tokens/s, ` +
      `${((100 * steps * weights * 4) / seconds / bandwidth).toFixed(0)} % of the bandwidth, ` +
      `${((100 * operations) / seconds / peak).toFixed(0)} % of the peak; ${agreeing} of ${rows.length} rows have the same ids\n`,
  )
}
