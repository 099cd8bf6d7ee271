import { spawn } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { readRows } from '../../lib/data/sources.js'
import type { HubEvent } from '../../lib/files/hub/events.js'
import { repositoryOf } from '../../lib/files/hub/id.js'
import { hubSettings } from '../../lib/files/hub/settings.js'
import { hubFile } from '../../lib/files/hub/snapshot.js'
import { AbortError, CausalLM, onHubEvent, RewardModel, Tokenizer } from '../../lib/index.js'
import { modelSource } from '../../lib/models/hub.js'
import { cut, sendFile } from '../helpers/file-server.js'
import { fixture } from '../helpers/fixtures.js'
import { type Files, filesIn, gitSha1Of, qwen, sha256Of, startHub, WANTED } from '../helpers/hub-server.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyModel } from '../helpers/tiny-training.js'

// The environment says which Hub is asked, so the tests stand one after another.
const test = (anyTest as TestFn).serial

test('a model is loaded from the Hub: only the files needed, in the Hub’s own layout', async (t) => {
  const { hub, cache, sha } = await startHub(t)
  const events: HubEvent[] = []
  await using model = await CausalLM.load('org/tiny', { onHub: (event) => events.push(event) })
  await using local = await CausalLM.load(fixture('models', 'qwen3'))
  const name = (await model.parameters())[0]!.name
  t.deepEqual(await model.getParameter(name), await local.getParameter(name))

  const folder = join(cache, 'models--org--tiny')
  t.deepEqual(readdirSync(join(folder, 'snapshots', sha)).sort(), WANTED)
  t.is(readFileSync(join(folder, 'refs', 'main'), 'utf8'), sha)
  for (const path of WANTED) {
    const file = qwen[path] as Buffer
    const hash = path.endsWith('.safetensors') ? sha256Of(file) : gitSha1Of(file)
    t.is(readlinkSync(join(folder, 'snapshots', sha, path)), `../../blobs/${hash}`)
    t.deepEqual(readFileSync(join(folder, 'blobs', hash)), file)
  }
  t.is(readdirSync(join(folder, 'blobs')).length, WANTED.length)
  const [first] = events
  t.true(first?.type === 'start' && first.repository === 'org/tiny' && first.direction === 'download')
  const bytes = WANTED.reduce((sum, path) => sum + qwen[path]!.length, 0)
  t.is((first as { totalBytes: number }).totalBytes, bytes)
  const progress = events.filter((event) => event.type === 'progress')
  t.is(progress.at(-1)?.receivedBytes, bytes)
  t.is(events.at(-1)?.type, 'end')

  // A second time one question: which commit main is now.
  hub.asked.length = 0
  hub.blobsAsked.length = 0
  await (await CausalLM.load('org/tiny')).dispose()
  t.deepEqual(hub.asked, ['GET /api/models/org/tiny/revision/main'])
  // And none at all for a commit that is whole here, or offline.
  await (await CausalLM.load(`org/tiny@${sha}`)).dispose()
  await (await CausalLM.load('org/tiny', { revision: sha })).dispose()
  process.env.HF_HUB_OFFLINE = '1'
  await (await CausalLM.load('org/tiny')).dispose()
  t.is(hub.asked.length, 1)
  t.is(hub.blobsAsked.length, 0)
})

test('a revision is a branch, a tag or a commit, and main moves on', async (t) => {
  const { hub, sha } = await startHub(t)
  hub.commit('models/org/tiny', { ...qwen, 'chat_template.jinja': '{{ messages }}' }, 'refs/pr/1')
  const second = hub.commit('models/org/tiny', { ...qwen, 'chat_template.jinja': 'v1' }, 'v1')
  const folderOf = async (model: string, revision?: string) =>
    (await modelSource(model, 'model', { revision })).folder
  t.true((await folderOf('org/tiny')).endsWith(sha))
  t.true((await folderOf('org/tiny', 'v1')).endsWith(second))
  t.is((await Tokenizer.load('org/tiny@refs/pr/1')).chatTemplate, '{{ messages }}')
  t.is((await Tokenizer.load('hf://org/tiny@v1')).chatTemplate, 'v1')
  const third = hub.commit('models/org/tiny', { ...qwen, 'README.md': 'moved' })
  hub.blobsAsked.length = 0
  t.true((await folderOf('org/tiny')).endsWith(third))
  t.is(hub.blobsAsked.length, 0, 'the blobs are here already')
  await t.throwsAsync(folderOf('org/tiny@v1', 'v2'), { code: 'ERR_INVALID_ARGUMENT' })
  await t.throwsAsync(folderOf('org/tiny@../x'), { code: 'ERR_INVALID_ARGUMENT' })
})

test('shards: those that the index names', async (t) => {
  const { hub } = await startHub(t)
  const { 'model.safetensors': weights, ...rest } = qwen
  const name = (i: number) => `model-0000${i}-of-00002.safetensors`
  const index = JSON.stringify({ weight_map: { a: name(1), b: name(2) } })
  const files: Files = {
    ...rest,
    'model.safetensors.index.json': index,
    [name(1)]: weights!,
    [name(2)]: 'two',
  }
  hub.commit('models/org/sharded', { ...files, 'consolidated.safetensors': 'not these' })
  const { folder } = await modelSource('org/sharded', 'model')
  t.deepEqual(
    readdirSync(folder).filter((path) => path.endsWith('.safetensors')),
    [name(1), name(2)],
  )
  const { [name(2)]: _, ...lacking } = files
  hub.commit('models/org/lacking', lacking)
  await t.throwsAsync(modelSource('org/lacking', 'model'), {
    code: 'ERR_HUB',
    message: /names model-00002-of-00002/,
  })
  hub.commit('models/org/old', { ...rest, 'pytorch_model.bin': 'x' })
  await t.throwsAsync(modelSource('org/old', 'model'), {
    code: 'ERR_HUB',
    message: /only pytorch_model\.bin/,
  })
  hub.commit('models/org/out', { ...rest, '../../x.safetensors': 'x' })
  await t.throwsAsync(modelSource('org/out', 'model'), { code: 'ERR_NETWORK', message: /points outside/ })
})

test('local paths take precedence, and anything that looks like a path is one', async (t) => {
  const { hub } = await startHub(t)
  const directory = process.cwd()
  const folder = newFolder(t)
  t.teardown(() => process.chdir(directory))
  process.chdir(folder)
  mkdirSync(join('org', 'tiny'), { recursive: true })
  await t.throwsAsync(CausalLM.load('org/tiny'), { message: 'org/tiny/config.json does not exist' })
  await t.throwsAsync(CausalLM.load('org/tiny', { revision: 'v1' }), { code: 'ERR_INVALID_ARGUMENT' })
  for (const path of ['./x', '/x', 'a/b/c', '../x/y', 'gpt2', '.cache/x', 'a\\b'])
    await t.throwsAsync(CausalLM.load(path), {
      code: 'ERR_INVALID_FILE',
      message: `${path} does not exist; give a folder, or org/name on the Hub`,
    })
  t.deepEqual(hub.asked, [])
  t.is(repositoryOf('org/name')?.id, 'org/name')
  t.is(repositoryOf('org/na--me'), null)
})

test('refusals say what to do', async (t) => {
  const { hub } = await startHub(t)
  const load = (model: string, token?: string) => modelSource(model, 'model', { token })
  const refused = async (model: string, message: RegExp, token?: string) => {
    const error = await t.throwsAsync(load(model, token), { code: 'ERR_HUB', message })
    t.false(error!.message.includes('\n'))
  }
  await refused('org/nothing', /^org\/nothing is neither a local path nor a model on .*set HF_TOKEN/)
  await refused('org/nothing', /that the token has access$/, 'hf_x')
  await refused('org/tiny@v9', /org\/tiny has no revision v9 .*use a branch, tag or commit/)
  hub.commit('models/org/gated', qwen)
  hub.repositories.get('models/org/gated')!.gatedFor = 'hf_allowed'
  await refused('org/gated', /org\/gated is gated: request access at .*\/org\/gated, then set HF_TOKEN/)
  await refused('org/gated', /the token has no access: request access/, 'hf_other')
  t.truthy(await load('org/gated', 'hf_allowed'))
  hub.commit('models/org/adapter', { 'adapter_config.json': '{}', 'adapter_model.safetensors': 'x' })
  await refused('org/adapter', /it is an adapter/)
  hub.refuse = (_, response) => {
    response.writeHead(401, { 'X-Error-Message': 'Invalid credentials in Authorization header' }).end()
    return true
  }
  await refused('org/other', /does not accept the token: create a new one/, 'hf_bad')
})

test('the token comes from the environment or the file, and goes to the Hub alone', async (t) => {
  const { hub } = await startHub(t)
  hub.commit('models/org/private', qwen)
  hub.repositories.get('models/org/private')!.token = 'hf_secret'
  await t.throwsAsync(modelSource('org/private', 'model'), { code: 'ERR_HUB' })
  writeFileSync(join(process.env.HF_HOME!, 'token'), 'hf_secret\n')
  t.truthy(await modelSource('org/private', 'model'))
  t.deepEqual(hub.blobsAsked.length > 0 && hub.leaked, [])
  t.is(hubSettings(undefined, { HF_HOME: process.env.HF_HOME, HF_TOKEN: ' hf_env ' }).token, 'hf_env')
  t.is(hubSettings('mine', { HF_TOKEN: 'hf_env' }).token, 'mine')
  t.is(
    hubSettings(undefined, { HF_HOME: process.env.HF_HOME, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' }).token,
    null,
  )
  for (const endpoint of ['http://mirror.example', 'http://10.0.0.1:80'])
    t.throws(() => hubSettings('secret', { HF_ENDPOINT: endpoint }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /^HF_ENDPOINT is .*: the token would travel there unencrypted/,
    })
  const noToken = { HF_TOKEN_PATH: '/nowhere', HF_ENDPOINT: 'http://mirror.example' }
  t.is(hubSettings(undefined, noToken).token, null)
  for (const endpoint of [
    'http://localhost:1',
    'http://127.0.0.1:1',
    'http://[::1]:1',
    'https://mirror.example',
  ])
    t.is(hubSettings('secret', { HF_ENDPOINT: endpoint }).token, 'secret')
  t.is(hubSettings(undefined, { HF_TOKEN_PATH: '/nowhere' }).endpoint, 'https://huggingface.co')
  const cacheOf = (env: Record<string, string>) => hubSettings('', env).cache
  t.is(cacheOf({ HF_HUB_CACHE: '/a', HUGGINGFACE_HUB_CACHE: '/b', HF_HOME: '/c' }), '/a')
  t.is(cacheOf({ HUGGINGFACE_HUB_CACHE: '/b', HF_HOME: '/c' }), '/b')
  t.is(cacheOf({ HF_HOME: '$BASE/c', BASE: '/d' }), '/d/c/hub')
  t.is(cacheOf({ XDG_CACHE_HOME: '/x' }), '/x/huggingface/hub')
})

test('an interrupted download resumes in a later call, and damaged bytes are refused', async (t) => {
  const { hub, cache } = await startHub(t)
  const weights = qwen['model.safetensors'] as Buffer
  const half = Math.floor(weights.length / 2)
  const abort = new AbortController()
  hub.faults = [cut(half), cut(half + 10)]
  const onHub = (event: HubEvent) => {
    if (event.type === 'retry') abort.abort()
  }
  await t.throwsAsync(modelSource('org/tiny', 'model', { signal: abort.signal, onHub }), {
    instanceOf: AbortError,
  })
  const blobs = join(cache, 'models--org--tiny', 'blobs')
  const left = readdirSync(blobs).find((name) => name.endsWith('.incomplete'))!
  t.is(left, `${sha256Of(weights)}.posttrain.incomplete`)
  t.false(existsSync(join(cache, 'models--org--tiny', 'refs', 'main')))
  hub.faults = []
  hub.blobsAsked.length = 0
  const { folder } = await modelSource('org/tiny', 'model')
  t.regex(hub.blobsAsked.join(), /^\/blob\/\w{64} bytes=[1-9]\d*-$/)
  t.deepEqual(readFileSync(join(folder, 'model.safetensors')), weights)

  rmSync(cache, { recursive: true })
  hub.faults = [(_, response) => response.end(Buffer.alloc(weights.length))]
  await t.throwsAsync(modelSource('org/tiny', 'model'), { code: 'ERR_NETWORK', message: /its sha256 is/ })
  t.deepEqual(
    readdirSync(blobs).filter((name) => name.startsWith(sha256Of(weights))),
    [],
  )
})

test('where nothing answers the cache serves, and says so', async (t) => {
  const { hub, sha } = await startHub(t)
  await modelSource('org/tiny', 'model')
  hub.refuse = (_, response) => {
    response.writeHead(503, { 'Retry-After': '0' }).end()
    return true
  }
  const events: HubEvent[] = []
  const off = onHubEvent((event) => events.push(event))
  t.true((await modelSource('org/tiny', 'model')).folder.endsWith(sha))
  off()
  t.deepEqual(
    events.map(({ type }) => type),
    ['unreachable'],
  )
  await t.throwsAsync(modelSource('org/other', 'model'), {
    code: 'ERR_NETWORK',
    message: /^org\/other is not a local path, and .* answered 503/,
  })
  process.env.HF_HUB_OFFLINE = 'yes'
  await t.throwsAsync(modelSource('org/other', 'model'), {
    code: 'ERR_HUB',
    message: /org\/other cannot be fetched: HF_HUB_OFFLINE is set.*fetch it once/,
  })
  // Half a model is none.
  rmSync(join((await modelSource('org/tiny', 'model')).folder, 'model.safetensors'))
  await t.throwsAsync(modelSource('org/tiny', 'model'), { code: 'ERR_HUB', message: /no model\.safetensors/ })
})

test('several at once fetch each file once', async (t) => {
  const { hub } = await startHub(t)
  const waiting = { here: false, there: false }
  // The first request is answered when both others wait for it, or ask themselves.
  hub.faults = [
    (request, response, file) => {
      const timer = setInterval(() => {
        if (!(waiting.here && waiting.there) && hub.blobsAsked.length < 2) return
        clearInterval(timer)
        sendFile(request, response, file)
      }, 10)
    },
  ]
  const module = new URL('../../lib/models/hub.js', import.meta.url).href
  const program = `import { modelSource } from ${JSON.stringify(module)}
    const onHub = ({ type }) => type === 'wait' && console.log(type)
    console.log((await modelSource('org/tiny', 'model', { onHub })).folder)`
  const first = modelSource('org/tiny', 'model')
  while (hub.blobsAsked.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  const child = spawn(process.execPath, ['--input-type=module', '-e', program])
  let said = ''
  child.stdout.on('data', (text) => {
    said += text
    waiting.there ||= said.startsWith('wait\n')
  })
  const ended = new Promise((resolve) => child.on('close', resolve))
  const onHub = ({ type }: HubEvent) => {
    waiting.here ||= type === 'wait'
  }
  const second = await modelSource('org/tiny', 'model', { onHub })
  t.is(await ended, 0)
  const { folder } = await first
  t.is(second.folder, folder)
  t.is(said, `wait\n${folder}\n`)
  t.is(hub.blobsAsked.length, 1)
  t.deepEqual(readFileSync(join(folder, 'model.safetensors')), qwen['model.safetensors'])
})

test('data files by hf://', async (t) => {
  const { hub, cache } = await startHub(t)
  const lines = '{"prompt":"a","completion":"b"}\n{"prompt":"c","completion":"d"}\n'
  const sha = hub.commit('datasets/org/rows', { 'data/train.jsonl': lines, 'bad.jsonl': 'no' })
  hub.commit('models/org/with-rows', { 'rows.txt': 'one' }, 'v1')
  const read = async (source: string) => {
    const rows = []
    for await (const { row, failure } of readRows(source)) rows.push(failure ?? row)
    return rows
  }
  t.deepEqual(await read('hf://datasets/org/rows/data/train.jsonl'), [
    { prompt: 'a', completion: 'b' },
    { prompt: 'c', completion: 'd' },
  ])
  t.true(
    lstatSync(join(cache, 'datasets--org--rows', 'snapshots', sha, 'data', 'train.jsonl')).isSymbolicLink(),
  )
  t.deepEqual(await read('hf://org/with-rows@v1/rows.txt'), [{ text: 'one' }])
  hub.asked.length = 0
  t.is((await read(`hf://datasets/org/rows@${sha}/data/train.jsonl`)).length, 2)
  process.env.HF_HUB_OFFLINE = '1'
  t.is((await read('hf://datasets/org/rows/data/train.jsonl')).length, 2)
  t.deepEqual(hub.asked, [])
  await t.throwsAsync(hubFile('hf://datasets/org/rows/other.jsonl'), {
    code: 'ERR_HUB',
    message: /it has no other/,
  })
  delete process.env.HF_HUB_OFFLINE
  await t.throwsAsync(hubFile('hf://datasets/org/rows/other.jsonl'), {
    code: 'ERR_HUB',
    message: /no such file/,
  })
  await t.throwsAsync(hubFile('hf://datasets/org/none/x.jsonl'), {
    code: 'ERR_HUB',
    message: /has no dataset org\/none/,
  })
  for (const wrong of ['hf://datasets/org/rows', 'hf://org/name', 'hf://datasets/org/rows/../x.jsonl'])
    await t.throwsAsync(hubFile(wrong), { code: 'ERR_INVALID_ARGUMENT', message: /is not a file on the Hub/ })
})

test('adapters name the Hub’s base, and their base is found again', async (t) => {
  const { hub } = await startHub(t)
  hub.commit('models/org/tiny', qwen, 'v1')
  const folder = newFolder(t)
  {
    await using model = await CausalLM.load('org/tiny@v1')
    await using reward = await RewardModel.fromCausalLM(model, { seed: 1 })
    await reward.addAdapter('a', { rank: 2 })
    await reward.saveAdapter(join(folder, 'reward'))
    await model.addAdapter('b', { rank: 2 })
    await model.saveAdapter(join(folder, 'plain'))
  }
  const config = JSON.parse(readFileSync(join(folder, 'reward', 'adapter_config.json'), 'utf8'))
  t.is(config.base_model_name_or_path, 'org/tiny')
  t.is(config.revision, 'v1')
  hub.commit('models/org/reward', filesIn(join(folder, 'reward')))
  hub.commit('models/org/plain', filesIn(join(folder, 'plain')))
  await using reward = await RewardModel.load('org/reward')
  await using local = await RewardModel.load(join(folder, 'reward'))
  const texts = [Int32Array.of(5, 6, 7)]
  t.deepEqual(await reward.scores(texts), await local.scores(texts))
  await using model = await CausalLM.load('org/tiny')
  await model.loadAdapter('mine', 'org/plain')
  t.is(model.adapter, 'mine')
  // One from elsewhere opens no folder of this machine, also where one has the name of the base.
  const here = process.cwd()
  process.chdir(folder)
  try {
    await using other = await tinyModel()
    await other.save(join('org', 'tiny'))
    await using policy = await CausalLM.load(join('org', 'tiny'))
    for (const onto of [undefined, { model: policy, directory: 'org/tiny' }]) {
      await using again = await RewardModel.load('org/reward', onto && { onto })
      t.deepEqual(await again.scores(texts), await reward.scores(texts))
    }
  } finally {
    process.chdir(here)
  }
  const files = filesIn(join(folder, 'reward'))
  files['adapter_config.json'] = JSON.stringify({ ...config, base_model_name_or_path: folder })
  hub.commit('models/org/away', files)
  await t.throwsAsync(RewardModel.load('org/away'), {
    code: 'ERR_INVALID_FILE',
    message: /names the path .* not opened/,
  })
})
