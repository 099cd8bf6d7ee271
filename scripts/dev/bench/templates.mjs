// Speed of chat templates against @huggingface/jinja, on templates installed with TRL: milliseconds of one rendering.
// node scripts/dev/bench/templates.mjs [FOLDER OF TEMPLATES]   (npm install --no-save @huggingface/jinja)
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { JinjaTemplate } from '../../../dist/lib/data/text/jinja/index.js'

const python = process.env.POSTTRAIN_PYTHON ?? 'python3'
const folder =
  process.argv[2] ??
  join(
    execFileSync(python, ['-c', 'import trl; print(trl.__path__[0])'], { encoding: 'utf8' }).trim(),
    'chat_templates',
  )

const messages = Array.from({ length: 40 }, (_, i) => ({
  role: i % 2 === 0 ? 'user' : 'assistant',
  content: `Turn ${i}: ${'the quick brown fox jumps over the lazy dog. '.repeat(20)}`,
}))
const tools = Array.from({ length: 8 }, (_, i) => ({
  type: 'function',
  function: {
    name: `tool_${i}`,
    description: 'Finds things in a city',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', description: 'City' } },
      required: ['city'],
    },
  },
}))
const variables = {
  messages,
  tools,
  add_generation_prompt: true,
  bos_token: '<s>',
  eos_token: '</s>',
  pad_token: '',
}

/** Median milliseconds of each, measured in turns. */
function measure(runs, rounds = 15) {
  const times = runs.map(() => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const from = process.cpuUsage()
      for (let k = 0; k < 20; k++) run()
      const { user, system } = process.cpuUsage(from)
      times[i].push((user + system) / 20_000)
    }
  }
  return times.map((all) => all.sort((a, b) => a - b)[rounds >> 1])
}

const totals = [0, 0]
for (const name of readdirSync(folder)
  .filter((file) => file.endsWith('.jinja'))
  .sort()) {
  const source = readFileSync(join(folder, name), 'utf8')
  let theirs
  try {
    theirs = new Template(source.replace(/\{%-?\s*(end)?generation\s*-?%\}/g, ''))
    theirs.render(variables)
  } catch {
    continue
  }
  const ours = JinjaTemplate.parse(source, name)
  try {
    ours.render(variables)
  } catch {
    continue
  }
  const [a, b] = measure([() => ours.render(variables), () => theirs.render(variables)])
  totals[0] += a
  totals[1] += b
  console.log(`${name.padEnd(40)} ours ${a.toFixed(2)}  theirs ${b.toFixed(2)}  ratio ${(a / b).toFixed(2)}`)
}
console.log(
  `total: ours ${totals[0].toFixed(1)}  theirs ${totals[1].toFixed(1)}  ratio ${(totals[0] / totals[1]).toFixed(2)}`,
)
