// npm run demo: a small language model reads, then learns to answer, in front of your eyes.
//   npm run demo                              pre-trains from scratch, fine-tunes, checks itself, lets you ask
//   npm run demo -- --json                    the same as JSON lines
//   npm run demo -- --quick                   a few steps, to see that all works; answers nothing well
//   npm run demo -- --real --model DIR        fine-tunes a real chat model with LoRA, then GRPO (SmolLM2-135M-Instruct)
import { parseArgs } from 'node:util'
import { learnFromScratch } from './demo/from-scratch.mjs'
import { retrainRealModel } from './demo/real.mjs'

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
    'npm run demo -- --real needs --model DIR, a folder with SmolLM2-135M-Instruct (scripts/dev/real/model.py makes one)\n',
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
  process.exitCode = await (values.real ? retrainRealModel(options) : learnFromScratch(options))
} catch (error) {
  if (abort.signal.aborted) {
    process.stderr.write('\nStopped.\n')
    process.exit(130)
  }
  process.stderr.write(`\ndemo: ${error instanceof Error ? error.message : error}\n`)
  process.exit(1)
}
