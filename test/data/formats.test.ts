import { readFileSync } from 'node:fs'
import test from 'ava'
import { Command } from 'commander'
import { addFlags } from '../../lib/cli/flags.js'
import { inspectCommand } from '../../lib/cli/inspect.js'
import { commandOptions } from '../../lib/cli/train.js'
import { FORMATS, readRows } from '../../lib/data/index.js'
import { sftOptions } from '../../lib/train/options/fields.js'

function helpOf(command: Command): string {
  let help = ''
  command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp()
  return help
}

const endings = FORMATS.flatMap((format) => format.endings)

test('each ending belongs to one format, and none is the end of another', (t) => {
  for (const ending of endings) {
    t.regex(ending, /^\.[a-z0-9.]+$/)
    t.deepEqual(
      endings.filter((other) => other.endsWith(ending)),
      [ending],
    )
  }
})

test('a file is read by the format of its ending, in whatever case', async (t) => {
  for (const ending of endings)
    await t.throwsAsync(readRows(`none${ending.toUpperCase()}`).next(), { message: /does not exist/ }, ending)
})

test('what names the formats names all of them: the error, the help and the README', async (t) => {
  const error = await t.throwsAsync(readRows('rows.doc').next(), { code: 'ERR_DATA' })
  const inspect = helpOf(inspectCommand())
  const sft = helpOf(addFlags(new Command('sft'), commandOptions(sftOptions)))
  const data = /--data[\s\S]*?\n +--/.exec(sft)![0]
  const texts = { error: error!.message, '--data': data, inspect }
  for (const [name, text] of Object.entries(texts))
    for (const {
      endings: [main],
    } of FORMATS)
      t.true(text.includes(main), `${name}: ${main}`)
  for (const { holds } of FORMATS) t.true(inspect.includes(holds), holds)
  const cell = /^\| data +\| (.*?), arrays,/m.exec(readFileSync('README.md', 'utf8'))?.[1]
  t.is(cell, FORMATS.map(({ endings: [main] }) => main).join(', '))
})
