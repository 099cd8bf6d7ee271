import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { CausalLM } from '../../lib/index.js'
import { SAVES } from '../../lib/models/folder.js'
import { saveWeights } from '../../lib/models/save.js'
import { hash32 } from '../../lib/random.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyModel, weightsOf } from '../helpers/tiny-training.js'

/** Loads a path after each of 300 flips of a bit in one of its files; gives those that were not noticed. */
async function unnoticed(t: ExecutionContext, file: string, load: () => Promise<void>): Promise<string[]> {
  const bytes = readFileSync(file)
  const header = 8 + Number(bytes.readBigUInt64LE(0))
  const passed: string[] = []
  for (let i = 0; i < 300; i++) {
    // A third of them in the header, which is the smaller part.
    const at = hash32(1, 0, i) % (i % 3 === 0 ? header : bytes.length)
    const bit = hash32(1, 1, i) % 8
    const flipped = Uint8Array.from(bytes)
    flipped[at]! ^= 1 << bit
    writeFileSync(file, flipped)
    const error = await load().then(
      () => null,
      (cause) => cause,
    )
    if (error === null) passed.push(`bit ${bit} of byte ${at}, ${bytes.subarray(at - 20, at + 20)}`)
    else if (!['ERR_INVALID_FILE', 'ERR_UNSUPPORTED_MODEL'].includes(error.code)) t.fail(error.stack)
  }
  writeFileSync(file, bytes)
  await t.notThrowsAsync(load())
  return passed
}

/** In the metadata but for the checksums of tensors: it says nothing of the weights. The layout's comes first. */
const isHarmless = (what: string) => /__metadata__|\.crc32c":"[0-9a-f]{0,27}$|format|"pt"/.test(what)

test('a flipped bit in the weights of a saved model or adapter is noticed when they are loaded', async (t) => {
  const [folder, adapter] = [join(newFolder(t), 'model'), join(newFolder(t), 'adapter')]
  {
    await using model = await tinyModel(1)
    await model.save(folder)
    await model.addAdapter('one', { rank: 2, seed: 1 })
    await model.saveAdapter(adapter)
  }
  const whole = await unnoticed(t, join(folder, 'model.safetensors'), async () => {
    await using _ = await CausalLM.load(folder)
  })
  await using base = await CausalLM.load(folder)
  let count = 0
  const part = await unnoticed(t, join(adapter, 'adapter_model.safetensors'), async () => {
    await using other = await base.view()
    await other.loadAdapter(`number ${count++}`, adapter)
  })
  t.deepEqual(
    [...whole, ...part].filter((what) => !isHarmless(what)),
    [],
  )
})

test('the error names the file, the tensor and what to do; a file without checksums loads', async (t) => {
  const folder = join(newFolder(t), 'model')
  await using model = await tinyModel(1)
  await model.save(folder)
  const path = join(folder, 'model.safetensors')
  const bytes = readFileSync(path)
  bytes[bytes.length - 1]! ^= 1
  writeFileSync(path, bytes)
  await t.throwsAsync(CausalLM.load(folder), {
    code: 'ERR_INVALID_FILE',
    message:
      /model\.safetensors: the values of \S+ differ from their checksum; the file is damaged: copy or save/,
  })
  // As after a change by a program that writes metadata of its own.
  const text = bytes.toString('latin1').replace('posttrain.crc32c', 'some.other.value')
  writeFileSync(path, Buffer.from(text, 'latin1'))
  await using _ = await CausalLM.load(folder)
  truncateSync(path, bytes.length - 1)
  await t.throwsAsync(CausalLM.load(folder), { code: 'ERR_INVALID_FILE', message: /truncated/ })
})

test('checksums that another program kept for other tensors say nothing', async (t) => {
  const folder = join(newFolder(t), 'model')
  await using model = await tinyModel(1)
  await model.save(folder)
  const path = join(folder, 'model.safetensors')
  const bytes = readFileSync(path)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const { __metadata__, ...tensors } = JSON.parse(bytes.subarray(8, start).toString())
  const written = (order: string[]) => {
    let offset = 0
    const parts: Buffer[] = []
    const header: Record<string, object> = { __metadata__ }
    for (const name of order) {
      const [from, to] = tensors[name].data_offsets
      parts.push(bytes.subarray(start + from, start + to))
      header[name] = { ...tensors[name], data_offsets: [offset, offset + to - from] }
      offset += to - from
    }
    const text = Buffer.from(JSON.stringify(header))
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(text.length))
    writeFileSync(path, Buffer.concat([size, text, ...parts]))
  }
  const weights = async () => {
    await using loaded = await CausalLM.load(folder)
    return await weightsOf(loaded)
  }
  const before = await weights()
  const names = Object.keys(tensors)
  written(names.toReversed())
  t.deepEqual(await weights(), before)
  // In their own order they count.
  written(names)
  t.deepEqual(await weights(), before)
  tensors[names[0]!].data_offsets = tensors[names[0]!].data_offsets.map((at: number) => at + 4)
  written(names)
  await t.throwsAsync(CausalLM.load(folder), { code: 'ERR_INVALID_FILE', message: /checksum/ })
})

test('shards of one save are loaded, one of another save is refused', async (t) => {
  const folders = [join(newFolder(t), 'a'), join(newFolder(t), 'b')] as const
  for (const [i, folder] of folders.entries()) {
    await using model = await tinyModel(i)
    await model.save(folder)
    rmSync(join(folder, 'model.safetensors'))
    await saveWeights(model.role, folder, { dtype: 'float32', limit: 60_000 })
    await using again = await CausalLM.load(folder)
    t.deepEqual(await weightsOf(again), await weightsOf(model))
  }
  const index = 'model.safetensors.index.json'
  const { metadata } = JSON.parse(readFileSync(join(folders[0], index), 'utf8'))
  const names = Object.keys(metadata[SAVES])
  t.deepEqual(names, ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'])
  for (const name of names) {
    const mixed = join(newFolder(t), 'mixed')
    cpSync(folders[0], mixed, { recursive: true })
    cpSync(join(folders[1], name), join(mixed, name))
    await t.throwsAsync(CausalLM.load(mixed), {
      code: 'ERR_INVALID_FILE',
      message: new RegExp(`${name} is not of the same save as ${index}`),
    })
  }
})

test('a file of weights that lacks a tensor, or has one of another shape or dtype, changes no weight', async (t) => {
  const folder = newFolder(t)
  await using model = await tinyModel(1)
  await using other = await tinyModel(2)
  let made = 0
  /** The file with another header; its values stay. */
  const changed = (
    path: string,
    change: (header: Record<string, { shape: number[]; dtype: string }>) => void,
  ) => {
    const bytes = readFileSync(path)
    const end = 8 + Number(bytes.readBigUInt64LE(0))
    const header = JSON.parse(bytes.toString('utf8', 8, end))
    delete header.__metadata__
    change(header)
    let text = JSON.stringify(header)
    while (text.length % 8 !== 0) text += ' '
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(text.length))
    const changedPath = `${path}.${made++}`
    writeFileSync(changedPath, Buffer.concat([size, Buffer.from(text), bytes.subarray(end)]))
    return changedPath
  }
  const last = (header: object) => Object.keys(header).at(-1)!
  for (const adapted of [false, true]) {
    if (adapted)
      for (const each of [model, other])
        await each.addAdapter('one', { rank: 2, seed: each === model ? 3 : 4 })
    const path = join(folder, String(adapted))
    await other.saveWeights(path)
    const before = await weightsOf(model)
    const files: [string, RegExp][] = [
      [
        changed(path, (header) => {
          header.another = header[last(header)]!
          delete header[Object.keys(header).at(-2)!]
        }),
        /have no |has no /,
      ],
      [changed(path, (header) => header[last(header)]!.shape.unshift(1)), /shape \[1, /],
      [
        changed(path, (header) => {
          header[last(header)]!.dtype = 'I32'
        }),
        / as I32; weights must be F32, BF16, F16, F64$/,
      ],
    ]
    for (const [file, message] of files) {
      await t.throwsAsync(model.loadWeights(file), { code: 'ERR_INVALID_FILE', message })
      t.deepEqual(await weightsOf(model), before)
    }
    await model.loadWeights(path)
    t.deepEqual(await weightsOf(model), await weightsOf(other))
  }
})
