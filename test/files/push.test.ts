import { cpSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { CausalLM, type HubEvent, push } from '../../lib/index.js'
import { posttrain } from '../helpers/command-line.js'
import { type Fault, serve } from '../helpers/file-server.js'
import { fixture } from '../helpers/fixtures.js'
import { qwen, startHub } from '../helpers/hub-server.js'
import { newFolder } from '../helpers/scratch.js'

const test = (anyTest as TestFn).serial

function modelFolder(): string {
  const folder = join(newFolder(), 'model')
  cpSync(fixture('models', 'qwen3'), folder, { recursive: true })
  writeFileSync(join(folder, '.hidden'), 'x')
  writeFileSync(join(folder, 'train.log'), 'the Hub ignores it')
  return folder
}

test('a folder is pushed in one commit and can be loaded from there', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const folder = modelFolder()
  // What the Hub has already is not sent.
  writeFileSync(
    join(folder, 'model.safetensors'),
    Buffer.concat([qwen['model.safetensors'] as Buffer, Buffer.alloc(8)]),
  )
  const busy: Fault = (_, response) => response.writeHead(503, { 'Retry-After': '0' }).end()
  hub.faults = [busy]
  const events: HubEvent[] = []
  const { commit, url } = await push(folder, 'org/new', {
    private: true,
    message: 'Mine',
    onHub: (e) => events.push(e),
  })
  const repository = hub.repositories.get('models/org/new')!
  t.true(repository.private)
  t.is(hub.summary, 'Mine')
  t.is(url, `${hub.endpoint}/org/new/commit/${commit}`)
  t.deepEqual(
    hub.sent.filter(([, key]) => key === 'lfsFile').map(([path]) => path),
    ['expected.safetensors', 'model.safetensors'],
  )
  t.false(hub.sent.some(([path]) => /hidden|log/.test(path)))
  t.deepEqual(hub.leaked, [])
  const [first] = events
  t.true(first?.type === 'start' && first.direction === 'upload')
  const progress = events.filter((event) => event.type === 'progress').at(-1)!
  t.is(progress.receivedBytes, progress.totalBytes)
  const pushed = repository.commits.at(-1)!.files
  for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
    t.deepEqual(pushed.get(name), qwen[name] as Buffer)
  t.is(pushed.get('model.safetensors')!.length, (qwen['model.safetensors'] as Buffer).length + 8)
  t.true(pushed.has('.gitattributes'))

  cpSync(fixture('models', 'qwen3', 'model.safetensors'), join(folder, 'model.safetensors'))
  hub.blobsAsked.length = 0
  await push(folder, 'org/new')
  t.deepEqual(hub.blobsAsked, [], 'every large file is there already')
  await using model = await CausalLM.load('org/new')
  await using local = await CausalLM.load(folder)
  t.is(model.vocabSize, local.vocabSize)
})

test('a link in the folder is sent as its file, and nothing that lies outside of it is sent', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const folder = modelFolder()
  const outside = newFolder()
  writeFileSync(join(outside, 'secret.txt'), 'secret')
  symlinkSync('config.json', join(folder, 'same.json'))
  const planted = async (target: string, says: RegExp, name = 'planted.txt') => {
    symlinkSync(target, join(folder, name))
    await t.throwsAsync(push(folder, 'org/linked'), { code: 'ERR_INVALID_FILE', message: says })
    rmSync(join(folder, name))
  }
  await planted(join(outside, 'secret.txt'), /planted\.txt is a link to .*secret\.txt, outside the folder/)
  await planted(outside, /planted\.txt is a link to .*, outside the folder/)
  // A folder whose name begins as this one's does.
  mkdirSync(`${folder}-other`)
  writeFileSync(join(`${folder}-other`, 'a.txt'), 'a')
  await planted('../model-other/a.txt', /outside the folder/)
  await planted('.', /planted\.txt is a link to .*, which is not a file/)
  await planted('planted.txt', /planted\.txt is a broken link/)
  mkdirSync(join(folder, 'inner'))
  await planted('../gone', /inner\/planted\.txt is a broken link/, 'inner/planted.txt')
  t.deepEqual(hub.asked, [], 'all of it is refused before the Hub is asked for anything')

  await push(folder, 'org/linked')
  const { files } = hub.repositories.get('models/org/linked')!.commits.at(-1)!
  t.deepEqual(files.get('same.json'), files.get('config.json'))
})

test('large files go in parts where the Hub asks for it, to a branch that is made', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  hub.partBytes = 1000
  const folder = modelFolder()
  writeFileSync(join(folder, 'model.safetensors'), Buffer.alloc(2500, 'abc'))
  await push(folder, 'org/tiny', { revision: 'trial' })
  const { refs, commits } = hub.repositories.get('models/org/tiny')!
  t.is(refs.get('trial'), commits.at(-1)!.sha)
  t.not(refs.get('main'), refs.get('trial'))
  t.deepEqual(commits.at(-1)!.files.get('model.safetensors'), Buffer.alloc(2500, 'abc'))
  t.is(hub.blobsAsked.filter((path) => /\/[123]$/.test(path)).length >= 3, true)
})

test('what is refused before anything is sent', async (t) => {
  const { hub } = await startHub(t)
  const folder = modelFolder()
  const refused = (message: RegExp, code = 'ERR_HUB') => ({ code, message })
  await t.throwsAsync(push(folder, 'org/new'), refused(/without a token: create one with write access/))
  process.env.HF_TOKEN = 'hf_read'
  await t.throwsAsync(push(folder, 'org/new'), refused(/refuses org\/new \(You need write access\)/))
  process.env.HF_TOKEN = 'hf_write'
  await t.throwsAsync(
    push(folder, 'org/tiny', { private: true }),
    refused(/already exists on .* and is public/),
  )
  await t.throwsAsync(push(folder, 'a/b/c'), refused(/write org\/name/, 'ERR_INVALID_ARGUMENT'))
  await t.throwsAsync(
    push(join(folder, '..'), 'org/new'),
    refused(/: push .*model instead/, 'ERR_INVALID_FILE'),
  )
  process.env.HF_HUB_OFFLINE = '1'
  await t.throwsAsync(push(folder, 'org/new'), refused(/HF_HUB_OFFLINE is set/))
  t.false(hub.asked.some((line) => line.includes('/commit/')))
})

test('every file is told, and an adapter whose base is a folder of this machine is warned of', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const folder = newFolder()
  const config = { peft_type: 'LORA', r: 4, base_model_name_or_path: './smol' }
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config))
  writeFileSync(join(folder, 'adapter_model.safetensors'), Buffer.alloc(100, 1))
  const pushed = async () => {
    const events: HubEvent[] = []
    await push(folder, 'org/new', { onHub: (event) => events.push(event) })
    return events
  }
  const events = await pushed()
  const start = events.find((event) => event.type === 'start')!
  t.deepEqual(start.files.map(({ path }) => path).sort(), [
    'adapter_config.json',
    'adapter_model.safetensors',
  ])
  const progress = events.filter((event) => event.type === 'progress').at(-1)!
  t.is(progress.receivedBytes, start.totalBytes)
  t.regex(
    events.find((event) => event.type === 'warning')?.message ?? '',
    /names "\.\/smol" as its base, which nobody else can load/,
  )
  const named = { ...config, base_model_name_or_path: 'org/tiny' }
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(named))
  t.false((await pushed()).some((event) => event.type === 'warning'))
  t.true(hub.sent.length > 0)
})

test('what is sent never goes to another server', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const seen: string[] = []
  const other = await serve(t, (request, response) => {
    seen.push(`${request.method} ${request.url}`)
    request.resume().on('end', () => response.writeHead(200).end('{"commitOid": "x"}'))
  })
  hub.refuse = (request, response) => {
    if (!/\/commit\//.test(request.url!)) return false
    response.writeHead(307, { Location: `${other}/taken` }).end()
    return true
  }
  await t.throwsAsync(() => push(modelFolder(), 'org/new'), {
    code: 'ERR_NETWORK',
    message: /redirects what is sent to another server/,
  })
  t.deepEqual(seen, [])
})

test('answers to a push that no Hub gives are typed errors', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const cases: [RegExp, string][] = [
    [/\/preupload\//, '{}'],
    [/\/preupload\//, '{"files": [null]}'],
    [/\/lfs\/objects\/batch/, '{"objects": [null]}'],
    [/\/lfs\/objects\/batch/, '{"objects": [{"oid": "x", "actions": {"upload": {"href": 5}}}]}'],
    [/\/lfs\/objects\/batch/, '[]'],
    [/\/commit\//, 'null'],
    [/\/commit\//, '<html>'],
  ]
  for (const [matches, body] of cases) {
    hub.refuse = (request, response) => {
      if (!matches.test(request.url!)) return false
      request.resume().on('end', () => response.writeHead(200).end(body))
      return true
    }
    await t.throwsAsync(
      () => push(modelFolder(), 'org/new'),
      { code: 'ERR_NETWORK', message: /does not respond like a Hub/ },
      `${matches} ${body}`,
    )
  }
})

test('posttrain push', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  hub.repositories.get('models/org/tiny')!.private = true
  const { code, stdout, stderr } = await posttrain([
    'push',
    '--model',
    modelFolder(),
    '--to',
    'org/tiny',
    '--private',
  ])
  t.is(code, 0, stderr)
  t.regex(stdout, /^http:.*\/org\/tiny\/commit\/\w{40}\n$/)
  t.regex(stderr, /^Sent org\/tiny: http/m)
})

test('what a listener throws ends a push as it is, and nothing is committed', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const folder = modelFolder()
  writeFileSync(join(folder, 'model.safetensors'), Buffer.alloc(2 ** 20, 1))
  for (const parts of [null, 2 ** 18]) {
    hub.partBytes = parts
    const mine = new Error('mine')
    const onHub = (event: HubEvent) => {
      if (event.type === 'progress' && event.receivedBytes > 0) throw mine
    }
    t.is(await t.throwsAsync(push(folder, 'org/listened', { onHub })), mine)
    const late = async (event: HubEvent) => onHub(event)
    t.is(await t.throwsAsync(push(folder, 'org/listened', { onHub: late })), mine)
  }
  t.deepEqual(hub.sent, [])
})

test('a file that is cut or removed while it is sent is an error that names it, at once', async (t) => {
  const { hub } = await startHub(t)
  process.env.HF_TOKEN = 'hf_write'
  const changes: [(path: string) => void, RegExp][] = [
    [
      (path) => truncateSync(path, 2 ** 19),
      /reading .*model\.safetensors failed: it became shorter while it was sent/,
    ],
    [(path) => rmSync(path), /reading .*model\.safetensors failed: ENOENT/],
  ]
  for (const [change, message] of changes) {
    const folder = modelFolder()
    const path = join(folder, 'model.safetensors')
    writeFileSync(path, Buffer.alloc(2 ** 22, 1))
    const onHub = (event: HubEvent) => {
      if (event.type === 'start') change(path)
    }
    await t.throwsAsync(push(folder, 'org/cut', { onHub }), { code: 'ERR_IO', message })
  }
  t.deepEqual(hub.sent, [])
})
