import anyTest, { type TestFn } from 'ava'
import { isSafePath } from '../../lib/files/hub/id.js'
import { CausalLM } from '../../lib/index.js'
import { startHub } from '../helpers/hub-server.js'

const test = (anyTest as TestFn).serial

test('answers that no Hub gives are typed errors', async (t) => {
  const { hub } = await startHub(t)
  const load = () => CausalLM.load('org/tiny')
  const answers = (matches: RegExp, body: string, headers: Record<string, string> = {}) => {
    hub.refuse = (request, response) => {
      if (!matches.test(request.url!)) return false
      response.writeHead(200, { 'Content-Type': 'application/json', ...headers }).end(body)
      return true
    }
  }
  const strange = { code: 'ERR_NETWORK', message: /does not respond like a Hub for org\/tiny: it / }
  for (const body of ['null', '[]', '7', '{}', '{"sha": 5}', '<html>']) {
    answers(/\/revision\//, body)
    await t.throwsAsync(load, strange, body)
  }
  for (const body of [
    '{}',
    'null',
    '<html>',
    '[null]',
    '[[]]',
    '[{"type": "file"}]',
    '[{"type":"file","path":"a","lfs":7}]',
    `[{"type":"file","path":"${'x'.repeat(1e6)}"}]`,
  ]) {
    answers(/\/tree\//, body)
    const error = await t.throwsAsync(load, strange, body.slice(0, 100))
    t.true(error!.message.length < 500)
  }
  answers(/\/tree\//, '[]', { Link: '<http://[::>; rel="next"' })
  await t.throwsAsync(load, { code: 'ERR_NETWORK', message: /list of files at an invalid address/ })
  let pages = 0
  hub.refuse = (request, response) => {
    if (!request.url!.includes('/tree/')) return false
    pages++
    response.writeHead(200, { Link: `<${hub.endpoint}${request.url}>; rel="next"` }).end('[]')
    return true
  }
  await t.throwsAsync(load, { code: 'ERR_NETWORK', message: /lists files on more than 1000 pages/ })
  t.is(pages, 1000)
})

test('a token that a server echoes is not in the message', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_secret'
  hub.refuse = (request, response) => {
    response.writeHead(403, { 'x-error-message': `no: ${request.headers.authorization}` }).end()
    return true
  }
  const error = await t.throwsAsync(() => CausalLM.load('org/tiny'), { code: 'ERR_HUB' })
  t.regex(error!.message, /no: Bearer \*\*\*/)
  hub.refuse = (request, response) => {
    const token = request.headers.authorization!.split(' ')[1]
    response.writeHead(302, { Location: `${hub.endpoint}/${token}/again` }).end()
    return true
  }
  const loops = await t.throwsAsync(() => CausalLM.load('org/tiny'), { code: 'ERR_NETWORK' })
  t.false(loops!.message.includes('hf_secret'), loops!.message)
})

test('a token that a server of files echoes is in no message and no event', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_secret'
  hub.refuse = (request, response) => {
    if (!/resolve|hf_secret/.test(request.url!)) return false
    const token = request.headers.authorization!.split(' ')[1]
    response.writeHead(302, { Location: `${hub.endpoint}/${token}/again` }).end()
    return true
  }
  const ending = new AbortController()
  const told: string[] = []
  const error = await t.throwsAsync(() =>
    CausalLM.load('org/tiny', {
      signal: ending.signal,
      onHub: (event) => {
        if (event.type !== 'retry') return
        told.push(JSON.stringify(event))
        if (told.length === 3) ending.abort()
      },
    }),
  )
  t.is(told.length >= 3, true)
  for (const text of [...told, error!.message]) t.false(text.includes('hf_secret'), text)
})

test('what a server says is short and acts on no terminal', async (t) => {
  const { hub } = await startHub(t)
  hub.refuse = (_, response) => {
    response.socket!.end(
      Buffer.from(`HTTP/1.1 403 No\r\nX-Error-Message: \x9b2J${'m'.repeat(9000)}\r\n\r\n`, 'latin1'),
    )
    return true
  }
  const error = await t.throwsAsync(() => CausalLM.load('org/tiny'), { code: 'ERR_HUB' })
  t.regex(error!.message, / refuses org\/tiny \( 2Jm+\.\.\.\)/)
  t.true(error!.message.length < 1200)
})

test('the user and password of HF_ENDPOINT are sent without a token, and in no message', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_ENDPOINT = hub.endpoint.replace('://', '://me:pass%21word@')
  const sent = new Set<string | undefined>()
  hub.refuse = (request, response) => {
    sent.add(request.headers.authorization)
    response.writeHead(403).end()
    return true
  }
  const error = await t.throwsAsync(() => CausalLM.load('org/tiny'), { code: 'ERR_HUB' })
  t.deepEqual([...sent], [`Basic ${btoa('me:pass!word')}`])
  t.false(/pass/.test(error!.message))
  process.env.HF_ENDPOINT = 'ftp://me:password@hub.example'
  await t.throwsAsync(() => CausalLM.load('org/tiny'), {
    code: 'ERR_INVALID_ARGUMENT',
    message: 'HF_ENDPOINT is ftp://hub.example, which is not an http(s) URL',
  })
})

test('names of files that Windows takes for others are safe elsewhere only', (t) => {
  for (const path of ['aux.json', 'a/CON', 'nul', 'com1.txt', 'x/.. /y', 'a.', 'b ', 'a:b', 'x\ny']) {
    t.false(isSafePath(path, 'win32'), path)
    t.is(isSafePath(path, 'linux'), path !== 'a:b', path)
  }
  for (const path of ['config.json', 'a/auxiliary.txt', 'console/x', '.gitattributes'])
    t.true(isSafePath(path, 'win32'), path)
})
