// node scripts/dev/checks/memory.mjs --model DIR [--batch-size 4] [--max-length 128] [--new-tokens 64] [--rank 16] [--threads 1]
// The memory of each recipe on a model folder: what `posttrain estimate` counts, what the allocator saw in real steps, and
// what the whole process had; first that of a process which has opened libtorch and no model.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    'batch-size': { type: 'string', default: '4' },
    'max-length': { type: 'string', default: '128' },
    'new-tokens': { type: 'string', default: '64' },
    rank: { type: 'string', default: '16' },
    threads: { type: 'string', default: '1' },
  },
})
if (!values.model) {
  process.stderr.write(
    'usage: node scripts/dev/checks/memory.mjs --model DIR [--batch-size 4] [--max-length 128] ...\n',
  )
  process.exit(2)
}

const lib = fileURLToPath(new URL('../../../dist/lib', import.meta.url))
const megabytes = (bytes) => (bytes / 1e6).toFixed(1).padStart(10)

const empty = spawnSync(
  process.execPath,
  [
    '--input-type=module',
    '--eval',
    `const { loadCore } = await import('${lib}/addon/load.js')
     await (await loadCore()).info()
     console.log(process.memoryUsage().rss)`,
  ],
  { encoding: 'utf8' },
)
if (empty.status !== 0) throw new Error(empty.stderr)
console.log(`a process with libtorch and no model: ${megabytes(Number(empty.stdout)).trim()} MB`)

const lora = ['--lora-rank', values.rank]
const rows = ['--batch-size', values['batch-size'], '--max-length', values['max-length']]
const length = Number(values['max-length'])
const rollout = [
  ...['--batch-size', values['batch-size'], '--max-new-tokens', values['new-tokens']],
  ...['--max-prompt-length', String(length - Number(values['new-tokens']))],
  ...['--batch-tokens', String(length * Number(values['batch-size']))],
]
const checkpointing = '--activation-checkpointing'
const cases = {
  'sft, all weights': ['sft', ...rows],
  'sft, checkpointing': ['sft', ...rows, checkpointing],
  'sft, LoRA': ['sft', ...rows, ...lora],
  'sft, LoRA, checkpointing': ['sft', ...rows, ...lora, checkpointing],
  'dpo, all weights': ['dpo', ...rows],
  'dpo, LoRA': ['dpo', ...rows, ...lora],
  'ppo, models of their own': ['ppo', ...rollout, '--epochs', '1'],
  'ppo, LoRA on one base': ['ppo', ...rollout, '--epochs', '1', ...lora],
  'grpo, LoRA': ['grpo', ...rollout, '--group-size', '2', ...lora],
}
console.log(`\n${'MB'.padEnd(26)}   counted  measured     ratio   process`)
for (const [name, argv] of Object.entries(cases)) {
  const given = ['--model', values.model, '--device', 'cpu', '--threads', values.threads, '--probe', '--json']
  const run = spawnSync(process.execPath, [`${lib}/cli/main.js`, 'estimate', ...argv, ...given], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  if (run.status !== 0) {
    console.log(`${name.padEnd(26)}  ${run.stderr.trim()}`)
    process.exitCode = 1
    continue
  }
  const { peak, probe } = JSON.parse(run.stdout)
  const ratio = (peak / probe.peakBytes).toFixed(3).padStart(10)
  console.log(
    `${name.padEnd(26)}${megabytes(peak)}${megabytes(probe.peakBytes)}${ratio}${megabytes(probe.residentBytes)}`,
  )
}
