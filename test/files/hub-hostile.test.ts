import anyTest, { type TestFn } from 'ava'
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
  ]) {
    answers(/\/tree\//, body)
    await t.throwsAsync(load, strange, body)
  }
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
