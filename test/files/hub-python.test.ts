import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { CausalLM, Tokenizer } from '../../lib/index.js'
import { modelSource } from '../../lib/models/hub.js'
import { layout, qwen, startHub, WANTED } from '../helpers/hub-server.js'

const check = fileURLToPath(new URL('../../../scripts/dev/checks/hub-check.py', import.meta.url))
const python = process.env.POSTTRAIN_PYTHON ?? 'python3'

test('what Python’s huggingface_hub fetches is laid out the same, and serves both ways offline', async (t) => {
  const { hub, cache, sha } = await startHub(t)
  hub.commit('models/org/tiny', qwen, 'refs/pr/2')
  if (spawnSync(python, ['-c', 'import huggingface_hub']).status !== 0) {
    t.log('skipped: python3 (or POSTTRAIN_PYTHON) has no huggingface_hub')
    t.pass()
    return
  }
  const ask = async (env: Record<string, string>, ...argv: string[]) => {
    const { stdout } = await promisify(execFile)(python, [check, ...argv], {
      env: { ...process.env, ...env },
    })
    return JSON.parse(stdout.trim().split('\n').at(-1)!) as string[]
  }
  const theirs = join(process.env.HF_HOME!, 'theirs')
  await ask({ HF_HUB_CACHE: theirs }, 'org/tiny', 'main', ...WANTED)
  await ask({ HF_HUB_CACHE: theirs }, 'org/tiny', 'refs/pr/2', 'config.json')
  await modelSource('org/tiny', 'model')
  await Tokenizer.load('org/tiny@refs/pr/2')
  const ofRepository = (root: string) => {
    const found = Object.entries(layout(join(root, 'models--org--tiny')))
    return Object.fromEntries(found.filter(([path]) => !path.startsWith('.no_exist')))
  }
  const [ours, expected] = [ofRepository(cache), ofRepository(theirs)]
  const pull = hub.repositories.get('models/org/tiny')!.refs.get('refs/pr/2')!
  const extra = { [`snapshots/${pull}/config.json`]: expected[`snapshots/${pull}/config.json`]! }
  const own = Object.fromEntries(
    Object.entries(ours).filter(([path]) => path.startsWith(`snapshots/${pull}/tokenizer`)),
  )
  t.deepEqual({ ...ours, ...extra }, { ...expected, ...own })

  hub.asked.length = 0
  const paths = await ask({ HF_HUB_OFFLINE: '1' }, 'org/tiny', 'main', ...WANTED)
  t.deepEqual(
    paths,
    WANTED.map((name) => join(cache, 'models--org--tiny', 'snapshots', sha, name)),
  )
  Object.assign(process.env, { HF_HUB_OFFLINE: '1', HF_HUB_CACHE: theirs })
  await (await CausalLM.load('org/tiny')).dispose()
  t.deepEqual(hub.asked, [])
  delete process.env.HF_HUB_OFFLINE
  hub.blobsAsked.length = 0
  t.is((await modelSource('org/tiny', 'model')).folder, join(theirs, 'models--org--tiny', 'snapshots', sha))
  t.is(hub.blobsAsked.length, 0)
})
