import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { readRow } from '../../lib/data/index.js'
import { distill } from '../../lib/distill/distill.js'
import type { DistillEvent } from '../../lib/distill/events.js'
import type { DistillOptions } from '../../lib/distill/options.generated.js'
import type { DistillRun } from '../../lib/distill/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import {
  completion,
  type Reaction,
  reply,
  type TeacherServer,
  teacherServer,
} from '../helpers/teacher-server.js'

const seedsNamed = (...names: string[]) => names.map((instruction) => ({ instruction }))
const many = (count: number) => seedsNamed(...Array.from({ length: count }, (_, i) => `question ${i}`))

function optionsFor(t: ExecutionContext, server: TeacherServer, data: DistillOptions['data']) {
  return {
    data,
    output: `${cleanFolder(t)}.jsonl`,
    endpoint: { model: 'big', baseUrl: server.baseUrl, apiKey: 'sk-test-key-of-some-length' },
  } satisfies DistillOptions
}

const linesOf = (path: string) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))

async function all(run: DistillRun): Promise<DistillEvent[]> {
  const events: DistillEvent[] = []
  for await (const event of run) events.push(event)
  return events
}

const reasons = (events: DistillEvent[], type: 'retry' | 'failure') =>
  events.flatMap((event) => (event.type === type ? [event.reason] : []))

test('columns beside a string prompt or a text are part of the question, and arguments of the template of the request', async (t) => {
  const server = await teacherServer(t, () => 'b')
  const data = [
    { prompt: 'q', system: 'S', history: [['a', 'b']], chat_template_kwargs: { enable_thinking: true } },
    { prompt: 'q' },
    { text: 'r', system: 'T', chat_template_kwargs: { enable_thinking: true } },
  ]
  const run = { templateArguments: { enable_thinking: false, depth: 1 }, concurrency: 1 }
  await all(distill({ ...optionsFor(t, server, data), ...run }))
  const asked = server.asked.map(({ body }) => body)
  t.deepEqual(
    asked.map(({ messages }) => messages.map(({ role, content }) => `${role} ${content}`).join(', ')),
    ['system S, user a, assistant b, user q', 'user q', 'system T, user r'],
  )
  const thinking = [true, false, true].map((enable_thinking) => ({ enable_thinking, depth: 1 }))
  for (const [i, body] of asked.entries()) t.deepEqual(body.chat_template_kwargs, thinking[i])
})

test('each kind of seed becomes a row that can be trained on', async (t) => {
  const server = await teacherServer(t, ({ question }) => ` answer to ${question}\n`)
  const data = [
    { instruction: 'Translate', input: 'cat', tag: 7 },
    { prompt: 'What is a dog?' },
    {
      messages: [
        { role: 'system', content: 'Be short' },
        { role: 'user', content: 'Why?' },
      ],
      weight: 2,
    },
    { instruction: 'Translate', input: 'cat', output: 'the same seed' },
    { prompt: [{ role: 'user', content: 'Where?' }], completion: 'old' },
    { conversations: [{ from: 'human', value: 'Who?' }] },
    { text: 'When?' },
  ]
  const options = {
    ...optionsFor(t, server, data),
    systemPrompt: 'You teach',
    temperature: 0.3,
    seed: 5,
    concurrency: 1,
  }
  const events = await all(distill(options))
  t.deepEqual(
    linesOf(options.output).map(({ seedId, ...row }) => row),
    [
      { instruction: 'Translate', input: 'cat', tag: 7, output: 'answer to Translate\ncat' },
      { instruction: 'What is a dog?', output: 'answer to What is a dog?' },
      {
        messages: [
          { role: 'system', content: 'Be short' },
          { role: 'user', content: 'Why?' },
          { role: 'assistant', content: 'answer to Why?' },
        ],
        weight: 2,
      },
      {
        messages: [
          { role: 'user', content: 'Where?', train: false },
          { role: 'assistant', content: 'answer to Where?' },
        ],
      },
      {
        messages: [
          { role: 'user', content: 'Who?' },
          { role: 'assistant', content: 'answer to Who?' },
        ],
      },
      { instruction: 'When?', output: 'answer to When?' },
    ],
  )
  for (const [i, row] of linesOf(options.output).entries()) {
    t.is(readRow(row, { source: 'made', line: i }).kind, 'messages')
    t.regex(row.seedId, /^answer-[0-9a-f]{16}$/)
  }
  t.like(events[0], { type: 'start', seeds: 6, duplicates: 1, finished: 0, total: 6 })
  t.like(events.at(-1), {
    type: 'end',
    reason: 'done',
    rows: 6,
    written: 6,
    requests: 6,
    promptTokens: 60,
    completionTokens: 30,
  })
  t.deepEqual(
    server.asked.slice(0, 3).map(({ body }) => body.messages[0]),
    [
      { role: 'system', content: 'You teach' },
      { role: 'system', content: 'You teach' },
      { role: 'system', content: 'Be short' },
    ],
  )
  const { body, authorization } = server.asked[0]!
  t.like(body, { model: 'big', temperature: 0.3, max_tokens: 1024 })
  t.true(Number.isInteger(body.seed))
  t.is(authorization, 'Bearer sk-test-key-of-some-length')
})

test('busy, broken, silent and garbled endpoints are asked again', async (t) => {
  const troubles: Record<string, Reaction> = {
    busy: reply(429, { error: { message: 'slow down' } }, { 'retry-after': '1' }),
    broken: reply(500, { error: { message: 'oops' } }),
    garbled: reply(200, '{"choices": [{"mess'),
    silent: () => undefined,
    halting: (response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.write('{"choices"')
    },
    gone: (response) => void response.destroy(),
  }
  const server = await teacherServer(t, ({ question, before }) =>
    before === 0 ? troubles[question]! : 'fine',
  )
  const options = optionsFor(t, server, seedsNamed(...Object.keys(troubles)))
  const events = await all(distill({ ...options, timeoutMs: 3000 }))
  t.like(events.at(-1), { written: 6, failed: 0, requests: 12, retries: 6 })
  const retries = events.filter((event) => event.type === 'retry')
  t.is(retries.find(({ reason }) => reason.includes('slow down'))?.waitMs, 1000)
  t.is(reasons(events, 'retry').filter((reason) => reason === 'no response within 3000 ms').length, 2)
  for (const { waitMs } of retries) t.true(waitMs >= 350 && waitMs <= 1000)
  t.is(new Set(linesOf(options.output).map(({ instruction }) => instruction)).size, 6)
})

test('answers of no use are asked again, then counted, and never written', async (t) => {
  const bad: Record<string, Reaction> = {
    empty: '  \n',
    nothing: completion({ content: null }),
    refused: completion({ content: null, refusal: 'I will not' }),
    filtered: completion({ content: 'half' }, 'content_filter'),
    long: completion({ content: 'and so on and' }, 'length'),
    strange: reply(200, { hello: 'world' }),
  }
  const server = await teacherServer(t, ({ question }) => bad[question] ?? 'fine')
  const options = optionsFor(t, server, seedsNamed('good', ...Object.keys(bad)))
  const events = await all(distill({ ...options, retries: 2 }))
  t.deepEqual(reasons(events, 'failure').toSorted(), [
    'the answer has no message',
    'the answer is empty',
    'the answer is empty',
    'the answer was cut off at maxNewTokens (1024)',
    'the teacher refused',
    'the teacher refused: I will not',
  ])
  t.like(events.at(-1), { rows: 1, total: 7, failed: 6, requests: 19, retries: 12 })
  t.deepEqual(
    linesOf(options.output).map(({ instruction }) => instruction),
    ['good'],
  )
  const seeds = server.asked.filter(({ question }) => question === 'empty').map(({ body }) => body.seed)
  t.is(new Set(seeds).size, 3)
})

test('what is wrong with a request is not asked again; what is wrong with all ends the run', async (t) => {
  const server = await teacherServer(t, ({ question, authorization, body }) => {
    if (question === 'too long') return reply(400, { error: { message: 'context exceeded' } })
    if (question === 'tomorrow')
      return reply(429, { error: { message: 'come back tomorrow' } }, { 'retry-after': '86400' })
    if (body.model === 'none') return reply(404, { error: { message: 'no such model' } })
    if (question === 'quota') return reply(429, { error: { message: 'used up', code: 'insufficient_quota' } })
    return reply(401, { error: { message: `bad key ${authorization}` } })
  })
  const one = await all(
    distill({ ...optionsFor(t, server, seedsNamed('too long', 'tomorrow')), concurrency: 1 }),
  )
  t.deepEqual(reasons(one, 'failure'), ['400 context exceeded', '429 come back tomorrow'])
  t.like(one.at(-1), { requests: 2, failed: 2 })
  const options = optionsFor(t, server, many(20))
  const refused = await t.throwsAsync(distill({ ...options, concurrency: 1 }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /rejects the API key.*set OPENAI_API_KEY/,
  })
  t.false(refused!.message.includes('sk-test-key-of-some-length'))
  t.is(server.asked.length, 3)
  await t.throwsAsync(
    distill({ ...options, endpoint: { ...options.endpoint, model: 'none' }, overwrite: true }).finish(),
    { code: 'ERR_INVALID_ARGUMENT', message: /no model none/ },
  )
  await t.throwsAsync(distill({ ...options, data: seedsNamed('quota'), overwrite: true }).finish(), {
    code: 'ERR_IO',
    message: /used up/,
  })
})

test('a redirect is refused, and a key that an answer echoes is not written', async (t) => {
  const seen: string[] = []
  const other = await teacherServer(t, ({ question }) => {
    seen.push(question)
    return reply(200, {})
  })
  const moved = await teacherServer(t, () =>
    reply(307, {}, { location: `${other.baseUrl}/chat/completions` }),
  )
  await t.throwsAsync(distill(optionsFor(t, moved, many(2))).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /redirects to another address: set endpoint\.baseUrl to the final one/,
  })
  t.deepEqual(seen, [])
  const echo = await teacherServer(t, ({ authorization }) => `Your key is ${authorization}.`)
  const options = optionsFor(t, echo, seedsNamed('a'))
  await distill(options).finish()
  t.regex(readFileSync(options.output, 'utf8'), /Your key is Bearer \*\*\*\./)
  const word = { ...optionsFor(t, echo, seedsNamed('b')), overwrite: true }
  await distill({ ...word, endpoint: { ...word.endpoint, apiKey: 'EMPTY' } }).finish()
  t.regex(readFileSync(word.output, 'utf8'), /Your key is Bearer EMPTY\./)
  const odd = await teacherServer(t, () => reply(200, { choices: [{ message: { refusal: {} } }] }))
  await t.throwsAsync(distill({ ...optionsFor(t, odd, many(3)), maxFailures: 2 }).finish(), {
    code: 'ERR_DATA',
  })
})

test('an endpoint that answers nothing of use ends the run after maxFailures', async (t) => {
  const server = await teacherServer(t, () => reply(503, 'no'))
  const options = { ...optionsFor(t, server, many(20)), retries: 0, maxFailures: 3 }
  await t.throwsAsync(distill({ ...options, concurrency: 1 }).finish(), {
    code: 'ERR_IO',
    message: /3 failures in a row.*rows:3: 503/,
  })
  t.is(server.asked.length, 3)
  const nobody = { model: 'big', baseUrl: 'http://127.0.0.1:9/v1' }
  await t.throwsAsync(distill({ ...options, endpoint: nobody, overwrite: true }).finish(), {
    code: 'ERR_IO',
    message: /127\.0\.0\.1:9.*(ECONNREFUSED|bad port)/,
  })
})

test('no more requests at once than concurrency', async (t) => {
  const server = await teacherServer(t, async () => {
    await new Promise((resolve) => setTimeout(resolve, 20))
    return 'fine'
  })
  await distill({ ...optionsFor(t, server, many(30)), concurrency: 3 }).finish()
  t.is(server.atOnce, 3)
  t.is(server.asked.length, 30)
})

test('stop finishes what is under way; resume asks only for what is missing, after a torn line too', async (t) => {
  const server = await teacherServer(t, ({ question }) => `answer to ${question}`)
  const options = { ...optionsFor(t, server, many(12)), concurrency: 2 }
  const run = distill(options)
  let seen = 0
  for await (const event of run) if (event.type === 'row' && ++seen === 4) run.stop()
  const stopped = await run.finish()
  t.is(stopped.reason, 'stopped')
  t.is(server.asked.length, stopped.written)
  t.true(stopped.written >= 4 && stopped.written <= 6)
  // The last line as a crash may leave it.
  truncateSync(options.output, readFileSync(options.output).length - 10)
  const torn = linesOf(options.output).length
  t.is(torn, stopped.written - 1)
  server.asked.length = 0
  // The order of the seeds does not matter.
  const again = await all(distill({ ...options, data: many(12).toReversed(), resume: true }))
  t.like(again[0], { type: 'start', finished: torn, total: 12, repaired: true })
  t.is(server.asked.length, 12 - torn)
  const rows = linesOf(options.output)
  t.deepEqual(
    rows.map(({ instruction, output }) => [instruction, output]).toSorted(),
    many(12)
      .map(({ instruction }) => [instruction, `answer to ${instruction}`])
      .toSorted(),
  )
  server.asked.length = 0
  t.like(await distill({ ...options, resume: true }).finish(), { written: 0, rows: 12, requests: 0 })
})

test('a failed seed is asked again by resume', async (t) => {
  let well = false
  const server = await teacherServer(t, ({ question }) => (question === 'question 1' && !well ? '' : 'fine'))
  const options = { ...optionsFor(t, server, many(3)), retries: 0 }
  t.like(await distill(options).finish(), { rows: 2, failed: 1 })
  well = true
  t.like(await distill({ ...options, resume: true }).finish(), { rows: 3, failed: 0, requests: 1 })
})

test('a signal aborts what is under way; break ends the run; both leave whole lines and no lock', async (t) => {
  const server = await teacherServer(t, ({ question }) =>
    question === 'question 2' ? () => undefined : 'fine',
  )
  const abort = new AbortController()
  const options = { ...optionsFor(t, server, many(3)), concurrency: 1 }
  const events = distill({ ...options, signal: abort.signal })[Symbol.asyncIterator]()
  for (let rows = 0; rows < 2; ) if ((await events.next()).value?.type === 'row') rows++
  setTimeout(() => abort.abort('enough'), 100)
  await t.throwsAsync(events.next(), { name: 'AbortError' })
  t.is(linesOf(options.output).length, 2)
  t.false(existsSync(`${options.output}.lock`))
  const run = distill({ ...options, overwrite: true })
  for await (const event of run) if (event.type === 'row') break
  t.like(await run.finish(), { reason: 'stopped', written: 1 })
  t.is(linesOf(options.output).length, 1)
  t.false(existsSync(`${options.output}.lock`))
})

test('stop does not wait for the time of another attempt', async (t) => {
  const server = await teacherServer(t, () => reply(429, 'busy', { 'retry-after': '30' }))
  const options = optionsFor(t, server, many(1))
  const run = distill(options)
  const began = Date.now()
  for await (const event of run) if (event.type === 'retry') run.stop()
  t.like(await run.finish(), { reason: 'stopped', failed: 0, requests: 1 })
  t.true(Date.now() - began < 10_000)
})

test("another's file is not touched", async (t) => {
  const server = await teacherServer(t, () => 'fine')
  const options = optionsFor(t, server, many(2))
  writeFileSync(options.output, '{"mine": 1}\n')
  await t.throwsAsync(distill(options).finish(), { code: 'ERR_INVALID_ARGUMENT', message: /already exists/ })
  await t.throwsAsync(distill({ ...options, resume: true }).finish(), {
    code: 'ERR_DATA',
    message: /:1: seedId must begin with answer-/,
  })
  await t.throwsAsync(distill({ ...options, data: options.output, overwrite: true }).finish(), {
    message: /is the seed file itself/,
  })
  t.is(readFileSync(options.output, 'utf8'), '{"mine": 1}\n')
  const first = distill({ ...options, overwrite: true })[Symbol.asyncIterator]()
  await first.next()
  await t.throwsAsync(distill({ ...options, resume: true }).finish(), {
    message: /is being written by process/,
  })
  await first.return!()
  t.is(server.asked.length, 0)
})

test('bad options and bad seeds', async (t) => {
  const server = await teacherServer(t, () => 'fine')
  const options = optionsFor(t, server, many(1))
  const refused = (more: object, message: RegExp) =>
    t.throws(() => distill({ ...options, ...more } as DistillOptions), {
      code: 'ERR_INVALID_ARGUMENT',
      message,
    })
  refused({ endpoint: undefined }, /no teacher/)
  refused({ model: 'folder' }, /model cannot be combined with endpoint/)
  refused({ count: 3 }, /count has no effect without mode 'extend'/)
  refused({ judge: 'rank', mode: 'extend' }, /judge has no effect without mode 'rank'/)
  refused({ output: 'rows.txt' }, /output must end in \.jsonl/)
  refused({ concurency: 3 }, /did you mean concurrency\?/)
  refused({ resume: true, overwrite: true }, /overwrite cannot be combined with resume/)
  refused({ endpoint: { model: 'big', baseUrl: 'localhost' } }, /endpoint\.baseUrl must begin with http/)
  const bad = async (rows: object[], message: RegExp, more: object = {}) =>
    t.throwsAsync(distill({ ...options, ...more, data: rows as never }).finish(), {
      code: 'ERR_DATA',
      message,
    })
  await bad([{ instruction: 'a' }, { instruction: 5 }], /rows:2: instruction must be a string/)
  await bad([{ instruction: '  ' }], /rows:1: the last message must be a question/)
  await bad([], /has no seeds/)
  await bad([{ messages: [{ role: 'user', content: 'a' }] }], /cannot be extended/, { mode: 'extend' })
  for (const responses of [['b', 'b'], ['b', ' '], ['b', 5], ['b'], 'b'])
    await bad([{ prompt: 'a', responses }], /responses must be at least two/, { mode: 'rank' })
  await bad([{ prompt: 'a', chosen: 'b' }], /chosen and rejected must be/, { mode: 'rank' })
  const mixed = [{ instruction: 'a' }, { what: 1 }]
  const [start] = await all(distill({ ...options, data: mixed, onBadRow: 'skip' }))
  t.like(start, { seeds: 1, badRows: 1 })
})
