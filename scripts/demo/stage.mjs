// Shared by both demos: output, training with a progress bar, chat.
import { createInterface } from 'node:readline'
import { Progress } from '../../dist/lib/cli/progress.js'
import { generate } from '../../dist/lib/index.js'

/** Prints text for people, or JSON lines. */
export class Printer {
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
 * Runs a training run to its end with a progress bar and, at each tenth, a line with the mean loss or score. Returns its
 * end event, CPU seconds and last validation accuracy. Hides warnings whose codes are in `expected`.
 */
export async function train(run, printer, watch = () => undefined, expected = []) {
  const progress = new Progress(process.stderr)
  const before = process.cpuUsage()
  let shown = 0
  let sum = 0
  let count = 0
  let accuracy
  for await (const event of run) {
    watch(event)
    if (event.type === 'evaluation' && 'accuracy' in event) accuracy = event.accuracy
    if (printer.json) process.stdout.write(`${JSON.stringify(event)}\n`)
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
        printer.say(`  step ${String(event.step).padStart(5)}   ${name} ${(sum / count).toFixed(3)}${more}`)
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
  if (accuracy !== undefined) printer.say(`  accuracy on held-out pairs: ${(100 * accuracy).toFixed(1)} %`)
  return { end: await run.finish(), cpuSeconds: (used.user + used.system) / 1e6, accuracy }
}
let total = 1

/** Trimmed responses to prompts; `stopped` if a stop token ended the response. */
export async function respond(model, prompts, options) {
  const completions = await generate(model, prompts, options)
  return completions.map(({ text, finishReason, tokenIds }) => ({
    text: text.trim(),
    stopped: finishReason === 'stop',
    tokenIds: [...tokenIds],
  }))
}

/** Chats on a terminal; returns at once without one. */
export async function conversation(respondTo, printer) {
  if (printer.json || !process.stdin.isTTY || !process.stdout.isTTY) return
  printer.say('\nChat with the model (Ctrl-D ends):')
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
  lines.prompt()
  for await (const line of lines) {
    if (line.trim() !== '') process.stdout.write(`${await respondTo(line.trim())}\n`)
    lines.prompt()
  }
}
