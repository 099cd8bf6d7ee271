import { cpSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { CausalLM } from '../../lib/index.js'
import { fixture, readJson } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'

const SINGLE = 'model.safetensors'
const SHARD = 'model-00002-of-00003.safetensors'
const ADAPTER = 'adapter_model.safetensors'
const BATCH = { inputIds: Int32Array.of(1, 2, 3), offsets: Int32Array.of(0, 3) }

function copied(t: ExecutionContext, ...names: string[]): string {
  const folder = join(newFolder(t), 'model')
  cpSync(fixture(...names), folder, { recursive: true })
  return folder
}

/** Gives one shard another name in the index. */
function shardNamed(folder: string, name: string): void {
  const path = join(folder, 'model.safetensors.index.json')
  const index = readJson<{ weight_map: Record<string, string> }>(path)
  for (const [tensor, file] of Object.entries(index.weight_map))
    if (file === SHARD) index.weight_map[tensor] = name
  writeFileSync(path, JSON.stringify(index))
}

/** Moves a file to another folder and leaves a link to it, as a store that keeps each file once does. */
function stored(folder: string, name: string, store: string): void {
  mkdirSync(store, { recursive: true })
  renameSync(join(folder, name), join(store, `sha256-${name}`))
  symlinkSync(join(store, `sha256-${name}`), join(folder, name))
}

async function sameWeights(t: ExecutionContext, folder: string, name: string): Promise<void> {
  await using model = await CausalLM.load(folder)
  await using whole = await CausalLM.load(fixture('models', name))
  for (const { name: weight } of await whole.parameters())
    t.deepEqual(await model.getParameter(weight), await whole.getParameter(weight))
}

test('weights may be links to files elsewhere: a single file, shards, a folder of shards', async (t) => {
  const single = copied(t, 'models', 'llama')
  for (const name of [SINGLE, 'config.json', 'tokenizer.json']) stored(single, name, join(single, '../store'))
  await sameWeights(t, single, 'llama')
  const shards = copied(t, 'models', 'mistral')
  const disk = join(shards, '../disk')
  stored(shards, SHARD, disk)
  shardNamed(shards, `linked/sha256-${SHARD}`)
  symlinkSync(disk, join(shards, 'linked'))
  await sameWeights(t, shards, 'mistral')
})

test('the weights of an adapter may be a link too', async (t) => {
  const folder = copied(t, 'adapters', 'llama')
  stored(folder, ADAPTER, join(folder, '../store'))
  await using model = await CausalLM.load(fixture('models', 'llama'))
  await model.loadAdapter('linked', folder)
  const linked = await model.logits(BATCH)
  await model.loadAdapter('plain', fixture('adapters', 'llama'))
  t.deepEqual(linked, await model.logits(BATCH))
  await model.setAdapter(null)
  t.notDeepEqual(linked, await model.logits(BATCH))
})

test('what a folder may be: a link to its own file, a cache of the Hub, no generation_config', async (t) => {
  const folder = copied(t, 'models', 'mistral')
  renameSync(join(folder, SHARD), join(folder, 'other.bin'))
  symlinkSync('other.bin', join(folder, SHARD))
  rmSync(join(folder, 'generation_config.json'))
  cpSync(join(folder, 'model-00001-of-00003.safetensors'), join(folder, '../blobs/abc'))
  rmSync(join(folder, 'model-00001-of-00003.safetensors'))
  symlinkSync('../blobs/abc', join(folder, 'model-00001-of-00003.safetensors'))
  await sameWeights(t, folder, 'mistral')
})

test('a name that points outside the folder and a dangling link are refused', async (t) => {
  const folder = copied(t, 'models', 'mistral')
  const refused = (message: RegExp) =>
    t.throwsAsync(CausalLM.load(folder), { code: 'ERR_INVALID_FILE', message })
  stored(folder, SHARD, join(folder, '../store'))
  shardNamed(folder, `../store/sha256-${SHARD}`)
  await refused(/points outside the folder/)
  rmSync(join(folder, SHARD))
  symlinkSync('..', join(folder, SHARD))
  cpSync(
    fixture('models', 'mistral', 'model.safetensors.index.json'),
    join(folder, 'model.safetensors.index.json'),
  )
  await refused(/model-00002-of-00003\.safetensors is not a file/)
  symlinkSync('../gone.safetensors', join(folder, SINGLE))
  await refused(/model\.safetensors is a link to \.\.\/gone\.safetensors, which does not exist/)
})
