import test from 'ava'
import { openEndpoint, retryAfter } from '../../lib/distill/endpoint.js'
import { TeacherFailure } from '../../lib/distill/teacher.js'

// What the client sends, kept here instead of sent: this file has a process of its own.
const sent: { url: string; headers: Headers; body: Record<string, unknown> }[] = []
globalThis.fetch = async (url, init) => {
  sent.push({ url: String(url), headers: new Headers(init?.headers), body: JSON.parse(String(init?.body)) })
  return Response.json({ choices: [{ message: { content: 'fine' }, finish_reason: 'stop' }] })
}

async function ask(
  endpoint: { model: string; baseUrl?: string; apiKey?: string },
  templateArguments: Record<string, unknown> = {},
) {
  sent.length = 0
  const teacher = await openEndpoint(endpoint, 1000)
  const messages = [{ role: 'user', content: 'why?', instruction: 'why?' }]
  const question = { messages, templateArguments, temperature: undefined, seed: 1, maxNewTokens: 7 }
  await teacher.ask(question, new AbortController().signal)
  return { ...sent[0]!, name: teacher.name }
}

test.serial('address, key and the name of the limit', async (t) => {
  process.env.OPENAI_API_KEY = 'sk-from-env\n'
  delete process.env.OPENAI_BASE_URL
  const own = await ask({ model: 'big' })
  t.is(own.url, 'https://api.openai.com/v1/chat/completions')
  t.is(own.headers.get('authorization'), 'Bearer sk-from-env')
  t.deepEqual(own.body, {
    model: 'big',
    messages: [{ role: 'user', content: 'why?' }],
    seed: 1,
    max_completion_tokens: 7,
  })
  const other = await ask({
    model: 'big',
    baseUrl: 'http://localhost:8000/v1?key=x',
    apiKey: 'sk-own',
  })
  t.is(other.headers.get('authorization'), 'Bearer sk-own')
  t.like(other.body, { max_tokens: 7, max_completion_tokens: undefined })
  t.is(other.name, 'big at http://localhost:8000/v1')
  process.env.OPENAI_BASE_URL = 'http://localhost:9000/v1'
  t.is((await ask({ model: 'big' })).url, 'http://localhost:9000/v1/chat/completions')
  delete process.env.OPENAI_API_KEY
  t.is((await ask({ model: 'big' })).headers.get('authorization'), 'Bearer none')
  delete process.env.OPENAI_BASE_URL
  await t.throwsAsync(ask({ model: 'big' }), { code: 'ERR_INVALID_ARGUMENT', message: /no API key/ })
})

test.serial('a response that has no end is a failure before it fills the memory', async (t) => {
  const before = globalThis.fetch
  t.teardown(() => {
    globalThis.fetch = before
  })
  const headers = { 'Content-Type': 'application/json' }
  const pull = (controller: ReadableStreamDefaultController) => controller.enqueue(new Uint8Array(2 ** 20))
  globalThis.fetch = async () => new Response(new ReadableStream({ pull }), { headers })
  await t.throwsAsync(ask({ model: 'big', baseUrl: 'http://localhost:8000/v1' }), {
    instanceOf: TeacherFailure,
    message: /the response is longer than 32 MiB/,
  })
})

test.serial('an address that no request can have is refused without its password', async (t) => {
  for (const baseUrl of ['http://me:s3cret@localhost:8000/v1', 'https://[::s3cret']) {
    const error = await t.throwsAsync(ask({ model: 'big', baseUrl }), { code: 'ERR_INVALID_ARGUMENT' })
    t.regex(error!.message, /^distill: endpoint\.baseUrl /)
    t.false(error!.message.includes('s3cret'))
  }
  process.env.OPENAI_BASE_URL = 'nowhere'
  await t.throwsAsync(ask({ model: 'big' }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /not an http\(s\) URL/,
  })
  delete process.env.OPENAI_BASE_URL
})

test('retry-after in seconds, as a date, and in milliseconds', (t) => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  const wait = (headers: Record<string, string>) => retryAfter(new Headers(headers), now)
  t.is(wait({ 'retry-after': '2.5' }), 2500)
  t.is(wait({ 'retry-after': 'Thu, 01 Jan 2026 00:00:07 GMT' }), 7000)
  t.is(wait({ 'retry-after': 'Wed, 31 Dec 2025 00:00:00 GMT' }), 0)
  t.is(wait({ 'retry-after': 'soon' }), undefined)
  t.is(wait({ 'retry-after-ms': '120', 'retry-after': '9' }), 120)
  t.is(wait({}), undefined)
})
