import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { runChild } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'

const child = fileURLToPath(new URL('long-lines-child.js', import.meta.url))
const MB = 2 ** 20
/** Most bytes of memory for each byte of a line. */
const BYTES = 12
/** Collects garbage as soon as there is some, so that what is needed is measured, not when a busy machine comes to it. */
const EARLY = ['--single-threaded-gc', '--optimize-for-size']

// Words that are tokens of the fixture: each token takes memory of its own beside its text.
const prose = (length: number) => ' what opposite colour name this tell the'.repeat(length / 40)
const word = (length: number) => 'whatoppositecolournametell'.repeat(length / 26)
/** A row of two turns, the last of them long. */
const turns = (roles: [string, string], content: string) =>
  JSON.stringify({
    messages: [
      { role: roles[0], content: 'b' },
      { role: roles[1], content },
    ],
  })
const forms: [string, (length: number) => string][] = [
  ['a row of text', (length) => JSON.stringify({ text: prose(length) })],
  ['a row of one word', (length) => JSON.stringify({ text: word(length) })],
  ['a message of one word', (length) => turns(['user', 'assistant'], word(length))],
  ['a message of spaces', (length) => turns(['assistant', 'user'], ' '.repeat(length))],
  ['a message of the assistant', (length) => turns(['user', 'assistant'], prose(length))],
  ['a message of the user', (length) => turns(['assistant', 'user'], prose(length))],
]

for (const [what, line] of forms) {
  test.serial(`${what} needs at most ${BYTES} times its memory`, async (t) => {
    t.timeout(300_000)
    if (!existsSync('/proc/self/status')) return void t.pass('skipped: no /proc')
    const folder = newFolder(t)
    const peaks: number[] = []
    // What the threads and the tokenizer take stands in both.
    for (const length of [MB, 17 * MB]) {
      const file = join(folder, `${length}.jsonl`)
      writeFileSync(file, `${line(length)}\n`)
      const { code, stdout, stderr } = await runChild(process.execPath, [...EARLY, child, file], {
        timeoutMs: 250_000,
      })
      t.is(code, 0, stderr)
      peaks.push((JSON.parse(stdout) as { peak: number }).peak)
    }
    const each = (peaks[1]! - peaks[0]!) / (16 * MB)
    t.log(`${each.toFixed(1)} bytes a byte`)
    t.true(each <= BYTES, `${each} bytes a byte`)
  })
}
