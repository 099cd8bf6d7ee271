import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { distill } from '../../lib/distill/distill.js'
import type { DistillEvent } from '../../lib/distill/events.js'
import { chooseExamples, readProposals } from '../../lib/distill/extend.js'
import { KnownTexts, rougeL, tokensOf } from '../../lib/distill/similarity.js'
import { cleanFolder } from '../helpers/scratch.js'
import { type Asked, completion, type TeacherServer, teacherServer } from '../helpers/teacher-server.js'

const seeds = [
  { instruction: 'Name the capital of France', output: 'Paris' },
  { instruction: 'Translate into German', input: 'The cat sleeps' },
  { instruction: '写一首关于春天的诗' },
]

const optionsFor = (t: ExecutionContext, server: TeacherServer) => ({
  data: seeds,
  mode: 'extend' as const,
  output: `${cleanFolder(t)}.jsonl`,
  endpoint: { model: 'big', baseUrl: server.baseUrl, apiKey: 'key' },
  concurrency: 1,
})

const linesOf = (path: string) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))

const proposing = ({ question }: Asked) => question.startsWith('These are tasks')

/** Words that no other number has. */
const task = (n: number) => `explain${n} topic${n} about${n} thing${n}`

test('new instructions with answers, until there are enough; resume goes on with further rounds', async (t) => {
  let made = 0
  const server = await teacherServer(t, (asked) => {
    if (!proposing(asked)) return `answer to ${asked.question}`
    const input = made === 0 ? 'some text' : ''
    return `Here:\n\`\`\`json\n${JSON.stringify([{ instruction: task(made++), input }, { instruction: task(made++) }])}\n\`\`\``
  })
  const options = { ...optionsFor(t, server), proposals: 2, systemPrompt: 'You teach' }
  t.like(await distill({ ...options, count: 3 }).finish(), { rows: 3, total: 3, requests: 5, reason: 'done' })
  const rows = linesOf(options.output)
  t.deepEqual(
    rows.map(({ seedId, ...row }) => row),
    [
      { instruction: task(0), input: 'some text', output: `answer to ${task(0)}\nsome text` },
      { instruction: task(1), output: `answer to ${task(1)}` },
      { instruction: task(2), output: `answer to ${task(2)}` },
    ],
  )
  t.deepEqual(
    rows.map(({ seedId }) => /^extend-(\d+)-[0-9a-f]{16}$/.exec(seedId)?.[1]),
    ['1', '1', '2'],
  )
  const [first] = server.asked
  for (const { instruction } of seeds) t.true(first!.question.includes(instruction))
  t.deepEqual(
    server.asked.map(({ body }) => body.messages.length),
    [1, 2, 2, 1, 2],
  )
  const again = await distill({ ...options, count: 5, resume: true }).finish()
  t.like(again, { rows: 5, written: 2 })
  t.regex(linesOf(options.output)[3].seedId, /^extend-3-/)
  // Two of the eight examples may be its own.
  t.true([0, 1, 2].some((n) => server.asked.at(-3)!.question.includes(task(n))))
})

test('copies of seeds and of one another are left out, said and counted', async (t) => {
  let round = 0
  const server = await teacherServer(t, (asked) => {
    if (!proposing(asked)) return 'fine'
    round++
    return JSON.stringify(
      round === 1
        ? ['name the capital of france!', 'Please name the capital of France', task(1), task(1).toUpperCase()]
        : [task(2)],
    )
  })
  const options = optionsFor(t, server)
  const events: DistillEvent[] = []
  for await (const event of distill({ ...options, count: 2 })) events.push(event)
  const copies = events.filter((event) => event.type === 'duplicate')
  t.deepEqual(
    copies.map(({ like, similarity }) => [like, similarity.toFixed(3)]),
    [
      ['Name the capital of France', '1.000'],
      ['Name the capital of France', (10 / 11).toFixed(3)],
      [task(1), '1.000'],
    ],
  )
  t.like(events.at(-1), { duplicates: 3, rows: 2, failed: 0 })
  t.deepEqual(
    linesOf(options.output).map(({ instruction }) => instruction),
    [task(1), task(2)],
  )
})

test('rounds that bring nothing, and answers that do not come, are counted, and end the run at last', async (t) => {
  const repeating = await teacherServer(t, () => JSON.stringify(['Name the capital of France']))
  await t.throwsAsync(distill({ ...optionsFor(t, repeating), maxFailures: 3 }).finish(), {
    code: 'ERR_DATA',
    message: /3 failures in a row, the last one round 3: all new instructions are too similar/,
  })
  const talking = await teacherServer(t, () => 'I would love to help you!')
  await t.throwsAsync(distill({ ...optionsFor(t, talking), maxFailures: 1, retries: 2 }).finish(), {
    message: /not a JSON list/,
  })
  t.is(talking.asked.length, 3)
  let made = 0
  const refusing = await teacherServer(t, (asked) => {
    if (proposing(asked)) return JSON.stringify([task(made++), task(made++)])
    return asked.question === task(0) ? completion({ refusal: 'no' }) : 'fine'
  })
  const options = { ...optionsFor(t, refusing), retries: 0, count: 2 }
  t.like(await distill(options).finish(), { rows: 2, failed: 1, reason: 'done' })
  t.deepEqual(
    linesOf(options.output).map(({ instruction }) => instruction),
    [task(1), task(2)],
  )
})

test('several rounds at once make no more than the count', async (t) => {
  let made = 0
  const server = await teacherServer(t, async (asked) => {
    await new Promise((resolve) => setTimeout(resolve, 100))
    return proposing(asked) ? JSON.stringify(Array.from({ length: 6 }, () => task(made++))) : 'fine'
  })
  const options = { ...optionsFor(t, server), concurrency: 4, count: 20 }
  t.like(await distill(options).finish(), { rows: 20 })
  t.is(new Set(linesOf(options.output).map(({ instruction }) => instruction)).size, 20)
  t.is(server.atOnce, 4)
})

test('examples are mostly seeds, others each round, and the same for the same seed', (t) => {
  const list = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => ({ instruction: `${name}${i}`, input: '' }))
  const choose = (round: number, seed = 0) =>
    chooseExamples(list('seed', 50), list('own', 50), { count: 8, seed, round }).map(
      ({ instruction }) => instruction,
    )
  t.is(choose(1).filter((name) => name.startsWith('own')).length, 2)
  t.is(new Set(choose(1)).size, 8)
  t.deepEqual(choose(1), choose(1))
  t.notDeepEqual(choose(1), choose(2))
  t.notDeepEqual(choose(1), choose(1, 1))
  t.is(chooseExamples(list('seed', 3), [], { count: 8, seed: 0, round: 1 }).length, 3)
})

test('lists of instructions as teachers write them', (t) => {
  t.deepEqual(readProposals('<think>[no]</think> ["a", {"instruction": " b ", "input": "c"}] Enjoy!'), [
    { instruction: 'a', input: '' },
    { instruction: 'b', input: 'c' },
  ])
  t.deepEqual(readProposals('{"tasks": [{"instruction": "a"}]}'), [{ instruction: 'a', input: '' }])
  for (const bad of [
    '',
    '[]',
    '["a", 5]',
    '[{"instruction": ""}]',
    '["a"',
    '[{"instruction": "a", "input": 3}]',
    '[null]',
  ]) {
    t.throws(() => readProposals(bad), { message: /not a JSON list/ }, bad)
  }
})

test('ROUGE-L by hand', (t) => {
  const words = (text: string) => text.split(' ')
  // Lin 2004, section 3.1: `police killed the gunman` against two others, with beta 1.
  t.is(rougeL(words('police killed the gunman'), words('police kill the gunman')), 0.75)
  t.is(rougeL(words('police killed the gunman'), words('the gunman kill police')), 0.5)
  t.is(rougeL(words('a b c'), words('a b c d e')), 0.75)
  t.is(rougeL([], words('a')), 0)
  t.deepEqual(tokensOf('Don’t: STOP-me, 3.5 été 写诗'), [
    'don',
    't',
    'stop',
    'me',
    '3',
    '5',
    'été',
    '写',
    '诗',
  ])
  t.deepEqual(tokensOf(' ?! '), ['?!'])
})

test('what is known is found at the threshold, never below it', (t) => {
  const known = new KnownTexts(0.75)
  known.add('police killed the gunman')
  known.add('?!')
  t.deepEqual(known.find('police kill the gunman'), { like: 'police killed the gunman', similarity: 0.75 })
  t.is(known.find('the gunman kill police'), null)
  t.is(known.find('police'), null)
  t.deepEqual(known.find('POLICE: killed the gunman.'), { like: 'police killed the gunman', similarity: 1 })
  t.is(known.find('!!'), null)
  // All words in common and none in its place.
  known.add('one two three four five six')
  t.is(known.find('six five four three two one'), null)
})
