// npm run demo: pre-trains a small language model, fine-tunes it and aligns it with RLHF, then chats.
//   npm run demo                              all three stages, with checks of what was learned
//   npm run demo -- --json                    the same as JSON lines
//   npm run demo -- --quick                   a few steps, to check that everything works; the model learns little
//   npm run demo -- --real --model DIR        LoRA fine-tuning, then GRPO, of a chat model (SmolLM2-135M-Instruct)
import { parseArgs } from 'node:util'
import { learnFromScratch } from './demo/from-scratch.mjs'
import { fineTuneRealModel } from './demo/real.mjs'

const { values } = parseArgs({
  options: {
    real: { type: 'boolean', default: false },
    model: { type: 'string' },
    output: { type: 'string', default: 'runs/demo' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    threads: { type: 'string' },
  },
})
if (values.real && !values.model) {
  process.stderr.write(
    'npm run demo -- --real requires --model DIR, a folder with SmolLM2-135M-Instruct (scripts/dev/real/model.py creates one)\n',
  )
  process.exit(2)
}
let interrupted = false
process.on('SIGINT', () => {
  if (interrupted) process.exit(130)
  interrupted = true
  abort.abort()
})
const abort = new AbortController()
const options = {
  ...values,
  signal: abort.signal,
  ...(values.threads && { threads: Number(values.threads) }),
}
try {
  process.exitCode = await (values.real ? fineTuneRealModel(options) : learnFromScratch(options))
} catch (error) {
  if (abort.signal.aborted) {
    process.stderr.write('\nStopped.\n')
    process.exit(130)
  }
  process.stderr.write(`\ndemo: ${error instanceof Error ? error.message : error}\n`)
  process.exit(1)
}
