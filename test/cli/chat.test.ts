import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Conversation } from '../../lib/cli/conversation.js'
import { sft } from '../../lib/train/sft.js'
import { mainProgram, runChild, runNode } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const argv = [mainProgram, 'chat', '--model', model, '--max-new-tokens', '4']

test.before(async () => {
  await using tiny = await tinyModel()
  const data = [{ instruction: 'cat?', output: 'Mimi' }]
  await sft({ model: tiny, data, template: 'plain', maxSteps: 1 }).finish()
  await tiny.save(model)
})

test('a line ends a text, a backslash or """ makes it longer, and an empty line is none', (t) => {
  const talk = new Conversation({ temperature: 0, stats: false })
  t.is(talk.read('one'), 'one')
  t.is(talk.read('  '), null)
  t.false(talk.isPartial)
  t.is(talk.read('one\\'), null)
  t.true(talk.isPartial)
  t.is(talk.read('two'), 'one\ntwo')
  for (const line of ['"""', 'a', '', '/clear']) t.is(talk.read(line), null)
  t.is(talk.read('b"""'), 'a\n\n/clear\nb')
  t.is(talk.read('"""c"""'), 'c')
  t.false(talk.isPartial)
})

test('the commands of a chat change the conversation', async (t) => {
  const talk = new Conversation({ system: 'Be brief.', temperature: 0, stats: false })
  talk.messages.push({ role: 'user', content: 'a' }, { role: 'assistant', content: 'b' })
  talk.messages.push({ role: 'user', content: 'c' }, { role: 'assistant', content: 'd' })
  await talk.command('/undo')
  t.deepEqual(
    talk.messages.map(({ content }) => content),
    ['Be brief.', 'a', 'b'],
  )
  await talk.command('/system Answer in French.')
  t.is(talk.messages[0]?.content, 'Answer in French.')
  await talk.command('/clear')
  t.deepEqual(talk.messages, [{ role: 'system', content: 'Answer in French.' }])
  await talk.command('/system')
  t.deepEqual(talk.messages, [])
  t.is(await talk.command('/undo'), 'There is nothing to undo')
  await talk.command('/temperature 0.7')
  t.is(talk.temperature, 0.7)
  t.regex((await talk.command('/temperature hot')) ?? '', /needs a number/)
  t.regex((await talk.command('/hlep')) ?? '', /no command \/hlep/)
  t.is(await talk.command('/exit'), null)
})

test('piped lines are turns and commands; an answer that is cut says so on stderr', async (t) => {
  const path = join(folder, 'chat.jsonl')
  const input = `hello\n\n/stats\nagain\n/undo\n/save ${path}\n/exit\nnever\n`
  const { code, stdout, stderr } = await runNode(argv, { input })
  t.is(code, 0, stderr)
  const { messages } = JSON.parse(readFileSync(path, 'utf8'))
  t.deepEqual(
    messages.map(({ role }: { role: string }) => role),
    ['user', 'assistant'],
  )
  t.true(stdout.startsWith(`${messages[1].content}\n`))
  t.regex(stderr, /\[cut after 4 tokens: --max-new-tokens allows more\]/)
  t.regex(stderr, /\[cut after 4 tokens.*; 4 tokens, [\d.]+ tokens\/s\]/)
})

const script = spawnSync('script', ['--version']).status === 0 ? test : test.skip
script('in a terminal an empty line does nothing, and help, answers and the prompt take turns', async (t) => {
  const command = [process.execPath, ...argv].map((word) => `'${word}'`).join(' ')
  const { stdout } = await runChild('script', ['-qec', command, '/dev/null'], {
    input: '\r\r/help\rhello\r/exit\r',
  })
  t.regex(stdout, /Loading the model[\s\S]*> [\s\S]*\/temperature X[\s\S]*> [\s\S]*\[cut after 4 tokens/)
  t.is(stdout.match(/\[cut after/g)?.length, 1)
})
