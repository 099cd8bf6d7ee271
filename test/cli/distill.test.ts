import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { set } from '../../lib/cli/distill.js'
import { distillOptions } from '../../lib/distill/options.js'
import { flagsOf, kebab } from '../../lib/options/flags.js'
import { describe } from '../../lib/options/option.js'
import { optionPaths } from '../../lib/options/validate.js'
import { mainProgram, runNode } from '../helpers/child.js'
import { eventsIn, MACHINE_FLAGS, posttrain } from '../helpers/command-line.js'
import { newFolder } from '../helpers/scratch.js'
import { reply, type TeacherServer, teacherServer } from '../helpers/teacher-server.js'

const KEY = 'sk-very-secret'
test.before(() => {
  process.env.OPENAI_API_KEY = KEY
  delete process.env.OPENAI_BASE_URL
})

function folderFor(t: ExecutionContext, seeds: number) {
  const folder = newFolder(t)
  const data = join(folder, 'seeds.jsonl')
  const rows = Array.from({ length: seeds }, (_, i) => `{"instruction": "question ${i}"}\n`)
  writeFileSync(data, rows.join(''))
  return { data, output: join(folder, 'rows.jsonl') }
}

const argv = (
  { data, output }: { data: string; output: string },
  server: TeacherServer,
  ...more: string[]
) => [
  'distill',
  ...['--data', data, '--output', output],
  ...['--endpoint-model', 'big', '--endpoint-base-url', server.baseUrl],
  ...more,
]

const linesIn = (path: string) => readFileSync(path, 'utf8').split('\n').slice(0, -1)

test('each option has its flag, but the signal and the key', (t) => {
  const flags = flagsOf(set.schema()).map(({ name }) => name)
  const options = optionPaths(distillOptions.schema()).map((path) => path.split('.').map(kebab).join('-'))
  const without = options.filter((name) => name !== 'signal' && name !== 'endpoint-api-key')
  t.deepEqual(flags.toSorted(), [...without, ...MACHINE_FLAGS].toSorted())
  for (const [name, field] of Object.entries(set.schema().shape)) t.truthy(describe(field)?.text, name)
})

test('rows in the file, events on stdout with --json, lines on stderr without', async (t) => {
  const server = await teacherServer(t, ({ question }) => `answer to ${question}`)
  const files = folderFor(t, 3)
  const { code, stdout, stderr } = await posttrain(argv(files, server, '--json'))
  t.is(code, 0, stderr)
  t.is(stderr, '')
  t.deepEqual(
    eventsIn(stdout).map(({ type }) => type),
    ['start', 'row', 'row', 'row', 'end'],
  )
  t.is(linesIn(files.output).length, 3)
  const again = await posttrain(argv(files, server, '--resume'))
  t.is(again.stdout, '')
  t.regex(again.stderr, /3 of 3 rows already written\n3 rows in .*rows\.jsonl, 0 of them new; 0 requests/)
  t.is(again.code, 0)
  t.true(server.asked.every(({ authorization }) => authorization === `Bearer ${KEY}`))
})

test('a run that is killed goes on without asking again for what is in the file', async (t) => {
  const server = await teacherServer(t, async ({ question }) => {
    await new Promise((resolve) => setTimeout(resolve, 30))
    return `answer to ${question}`
  })
  const files = folderFor(t, 20)
  let rows = 0
  const killed = await posttrain(argv(files, server, '--json', '--concurrency', '2'), (line, child) => {
    if (JSON.parse(line).type === 'row' && ++rows === 5) child.kill('SIGKILL')
  })
  t.is(killed.signal, 'SIGKILL')
  const finished = new Set(linesIn(files.output).map((line) => JSON.parse(line).instruction))
  t.true(finished.size >= 5 && finished.size < 20)
  await new Promise((resolve) => setTimeout(resolve, 100))
  server.asked.length = 0
  const { code, stderr } = await posttrain(argv(files, server, '--resume'))
  t.is(code, 0, stderr)
  t.is(server.asked.length, 20 - finished.size)
  t.false(server.asked.some(({ question }) => finished.has(question)))
  t.is(new Set(linesIn(files.output)).size, 20)
})

test('Ctrl-C finishes the running requests and says how to resume; exit code 130', async (t) => {
  const server = await teacherServer(t, async () => {
    await new Promise((resolve) => setTimeout(resolve, 30))
    return 'fine'
  })
  const files = folderFor(t, 20)
  let rows = 0
  const { code, stdout, stderr } = await posttrain(
    argv(files, server, '--json', '--concurrency', '2'),
    (line, child) => {
      if (JSON.parse(line).type === 'row' && ++rows === 3) child.kill('SIGINT')
    },
  )
  t.is(code, 130)
  t.regex(
    stderr,
    /interrupted; finished rows are in .*rows\.jsonl; resume with the same command and --resume/,
  )
  const end = eventsIn(stdout).at(-1)!
  t.like(end, { type: 'end', reason: 'stopped' })
  t.is(linesIn(files.output).length, server.asked.length)
  t.is(end.written, linesIn(files.output).length)
  t.true(server.asked.length < 20)
})

test('seeds without a response give exit code 1; wrong use gives 2; the key is said nowhere', async (t) => {
  const server = await teacherServer(t, ({ question, authorization }) => {
    if (question === 'question 0') return ''
    if (question === 'question 1') return reply(500, { error: { message: `of ${authorization}` } })
    return 'fine'
  })
  const files = folderFor(t, 3)
  const some = await posttrain(argv(files, server, '--retries', '1'))
  t.is(some.code, 1)
  t.regex(some.stderr, /seeds\.jsonl:1: no usable answer: the answer is empty/)
  t.regex(some.stderr, /2 of 3 rows are missing.*--resume retries them/)
  t.regex(some.stderr, /seeds\.jsonl:2: no usable answer: 500 of Bearer \*\*\*/)
  t.false(`${some.stdout}${some.stderr}${readFileSync(files.output, 'utf8')}`.includes(KEY))
  const wrong = async (sentence: RegExp, ...more: string[]) => {
    const ended = await posttrain(['distill', '--data', files.data, '--output', files.output, ...more])
    t.is(ended.code, 2)
    t.regex(ended.stderr, sentence)
  }
  await wrong(/--endpoint-model NAME or --model DIR is required/)
  await wrong(/--count has no effect without --mode 'extend'/, '--endpoint-model', 'a', '--count', '3')
  await wrong(/--device has no effect with an endpoint/, '--endpoint-model', 'a', '--device', 'cpu')
  const there = await posttrain(argv(files, server))
  t.is(there.code, 1)
  t.regex(there.stderr, /rows\.jsonl already exists/)
})

test('without a key and without an address it says what to set', async (t) => {
  const files = folderFor(t, 1)
  const { code, stderr } = await runNode(
    [mainProgram, 'distill', '--data', files.data, '--output', files.output, '--endpoint-model', 'big'],
    { env: { OPENAI_API_KEY: undefined } },
  )
  t.is(code, 1)
  t.regex(stderr, /no API key: set OPENAI_API_KEY/)
})
