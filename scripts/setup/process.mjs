// Runs programs with progress on stderr; failures are one sentence.
import { spawn, spawnSync } from 'node:child_process'

/** A failure that set-up prints as one sentence, without a stack. */
export class SetupError extends Error {}

export function say(text) {
  process.stderr.write(`posttrain: ${text}\n`)
}

/** First line of `program --version`, or null if it cannot be run. */
export function versionOf(program, args = ['--version']) {
  const run = spawnSync(program, args, { encoding: 'utf8' })
  if (run.error || run.status !== 0) return null
  return `${run.stdout}${run.stderr}`.split('\n')[0].trim()
}

/**
 * Runs a program with its output on our stderr; resolves to { code, tail }, where `tail` is the end of the output.
 * `quiet` hides the output (`tail` still has it). If stderr is not a terminal, a line every 20 s reports that `what`
 * is still running.
 */
export function execute(program, args, { what, quiet = false, ...options } = {}) {
  return new Promise((settle) => {
    const started = Date.now()
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    let tail = ''
    const keep = (chunk) => {
      if (!quiet) process.stderr.write(chunk)
      tail = (tail + chunk).slice(-8000)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const ticker = setInterval(() => {
      if (quiet || !process.stderr.isTTY) say(`${what}: ${Math.round((Date.now() - started) / 1000)} s`)
    }, 20_000)
    const done = (code, text) => {
      clearInterval(ticker)
      settle({ code, tail: text })
    }
    child.on('error', (error) => done(127, error.message))
    child.on('close', (code) => done(code ?? 1, tail))
  })
}
