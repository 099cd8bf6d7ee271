// What both demos share: telling, training with a progress bar, asking.
import { createInterface } from 'node:readline'
import { Progress } from '../../dist/lib/cli/progress.js'
import { generate } from '../../dist/lib/index.js'

/** Speaks to a person, or gives JSON lines. */
export class Teller {
  constructor(json) {
    this.json = json
  }

  title(text) {
    if (!this.json) process.stdout.write(`\n== ${text}\n`)
  }

  say(text) {
    if (!this.json) process.stdout.write(`${text}\n`)
  }

  event(type, fields) {
    if (this.json) process.stdout.write(`${JSON.stringify({ type, ...fields })}\n`)
  }
}

/**
 * Runs a training to its end with a progress bar, now and then the loss as a line; gives its end event and CPU seconds.
 * A person is not shown warnings whose codes are expected.
 */
export async function train(run, teller, watch = () => undefined, expected = []) {
  const progress = new Progress(process.stderr)
  const before = process.cpuUsage()
  let shown = 0
  let sum = 0
  let count = 0
  let accuracy
  for await (const event of run) {
    watch(event)
    if (event.type === 'evaluation' && 'accuracy' in event) accuracy = event.accuracy
    if (teller.json) process.stdout.write(`${JSON.stringify(event)}\n`)
    else if (event.type === 'step') {
      progress.show(event)
      sum += event.score ?? event.loss
      count++
      const tenth = Math.floor((10 * event.step) / total)
      if (tenth > shown) {
        shown = tenth
        progress.clear()
        const name = event.score === undefined ? 'loss' : 'score'
        const more = event.kl === undefined ? '' : `   KL ${event.kl.toFixed(2)}`
        teller.say(`  step ${String(event.step).padStart(5)}   ${name} ${(sum / count).toFixed(3)}${more}`)
        sum = 0
        count = 0
      }
    } else if (event.type === 'start') {
      total = event.totalSteps
      progress.show(event)
    } else if (event.type === 'warning' && !expected.includes(event.code)) progress.show(event)
  }
  progress.clear()
  const used = process.cpuUsage(before)
  if (accuracy !== undefined)
    teller.say(`  right order in ${(100 * accuracy).toFixed(1)} % of pairs it has not seen`)
  return { end: await run.finish(), cpuSeconds: (used.user + used.system) / 1e6, accuracy }
}
let total = 1

/** Answers of a template's prompts, trimmed, with whether each stopped by itself. */
export async function answers(model, prompts, options) {
  const completions = await generate(model, prompts, options)
  return completions.map(({ text, finishReason, tokenIds }) => ({
    text: text.trim(),
    stopped: finishReason === 'stop',
    tokenIds: [...tokenIds],
  }))
}

/** Lets a person ask, where there is one. */
export async function conversation(answer, teller) {
  if (teller.json || !process.stdin.isTTY || !process.stdout.isTTY) return
  teller.say('\nAsk it something (Ctrl-D ends):')
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
  lines.prompt()
  for await (const line of lines) {
    if (line.trim() !== '') process.stdout.write(`${await answer(line.trim())}\n`)
    lines.prompt()
  }
}
