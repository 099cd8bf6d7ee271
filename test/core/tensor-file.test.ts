import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import type { RoleHandle } from '../../lib/addon/addon.js'
import { loadCore } from '../../lib/addon/load.js'
import { familyOf } from '../../lib/models/families/index.js'
import { readTensors } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'
import { tensorBytes } from '../helpers/tensor-bytes.js'
import { tinyConfig } from '../helpers/tiny-training.js'

const folder = newFolder()

// Before the first test: AVA wants all of them declared in one go.
const core = await loadCore()
const family = familyOf(tinyConfig)
const spec = family.decoder(tinyConfig)
const entries = family.weights(spec)
let files = 0

function written(bytes: Uint8Array): string {
  const path = join(folder, `${files++}.safetensors`)
  writeFileSync(path, bytes)
  return path
}

const f32 = (begin: number, end: number, shape: unknown = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
})
const entry = (fields: object, data = 8) => tensorBytes({ a: { ...f32(0, 8), ...fields } }, data)

const EMPTY = JSON.stringify(f32(0, 0, [0]))
const broken: [what: string, bytes: Uint8Array, says: RegExp][] = [
  ['an empty file', new Uint8Array(0), /too short/],
  ['a file of seven bytes', new Uint8Array(7), /too short/],
  ['a header longer than the file', tensorBytes('{}', 0, 3), /header says it has 3 bytes in a file of 10/],
  ['a header of more than 100 MB', tensorBytes('{}', 0, 100_000_001), /100000001 bytes/],
  ['a header of 2 ** 64 - 1 bytes', tensorBytes('{}', 0, 2n ** 64n - 1n), /18446744073709551615 bytes/],
  ['a header of no bytes', tensorBytes('', 8), /header says it has 0 bytes/],
  ['a header that begins with a space', tensorBytes(' {}'), /does not start with '\{'/],
  ['a header that is a list', tensorBytes('[]'), /does not start with '\{'/],
  [
    'a header of more than 500,000 tensors',
    tensorBytes(`{${Array.from({ length: 500_001 }, (_, i) => `"${i}":${EMPTY}`).join()}}`),
    /more than 500000 tensors/,
  ],
  ['a header that ends early', tensorBytes('{"a"'), /not valid JSON/],
  ['text after the header', tensorBytes('{} {}'), /follows the JSON/],
  ['torn data', tensorBytes({ a: f32(0, 8) }, 7), /outside the data of 7 bytes/],
  ['tensors that overlap', tensorBytes({ a: f32(0, 8), b: f32(4, 12) }, 12), /b overlaps/],
  ['two tensors of the same bytes', tensorBytes({ a: f32(0, 8), b: f32(0, 8) }, 8), /overlaps/],
  ['a hole between tensors', tensorBytes({ a: f32(0, 4), b: f32(8, 12) }, 12), /b leaves a gap/],
  ['a hole before the first tensor', tensorBytes({ a: f32(4, 8) }, 8), /a leaves a gap/],
  [
    'bytes after the last tensor',
    tensorBytes({ a: f32(0, 8) }, 11),
    /3 bytes of the file belong to no tensor/,
  ],
  ['bytes and no tensor', tensorBytes({}, 1), /belong to no tensor/],
  ['more bytes than the shape needs', entry({ shape: [1] }), /needs 4 bytes, its offsets give 8/],
  ['fewer bytes than the shape needs', entry({ shape: [2, 2] }), /needs 16 bytes, its offsets give 8/],
  ['offsets that go backward', entry({ data_offsets: [8, 0] }), /outside the data/],
  ['a shape that overflows', entry({ shape: [2 ** 32, 2 ** 32, 2 ** 32] }), /too large/],
  ['a size above 2 ** 63', tensorBytes('{"a":{"shape":[99999999999999999999]}}'), /too large/],
  ['a negative size', entry({ shape: [-2] }), /whole number/],
  ['a size of 2.5', entry({ shape: [2.5] }), /not valid JSON/],
  ['offsets that are no integers', entry({ data_offsets: [0, 8.5] }), /not valid JSON/],
  ['offsets that are text', entry({ data_offsets: ['0', '8'] }), /whole number/],
  ['one offset', entry({ data_offsets: [8] }), /data_offsets must be two numbers/],
  ['three offsets', entry({ data_offsets: [0, 4, 8] }), /data_offsets must be two numbers/],
  ['a shape of 65 sizes', entry({ shape: Array(65).fill(1) }), /too long/],
  [
    'the same tensor twice',
    tensorBytes('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}'),
    /a twice/,
  ],
  ['the same key twice', tensorBytes('{"a":{"dtype":"F32","dtype":"F32"}}'), /dtype twice/],
  ['the same metadata twice', tensorBytes('{"__metadata__":{"k":"1","k":"2"}}'), /k twice/],
  ['metadata that is no text', tensorBytes({ __metadata__: { k: 1 } }), /not valid JSON/],
  ['an unknown dtype', entry({ dtype: 'F8_E4M3' }), /F8_E4M3/],
  ['no dtype', tensorBytes({ a: { shape: [2], data_offsets: [0, 8] } }, 8), /must have dtype/],
  ['an unknown key', entry({ stride: [1] }), /unknown key stride/],
  ['half a surrogate pair', tensorBytes('{"\\ud800":{}}'), /surrogate/],
  ['an unknown escape', tensorBytes('{"\\x":{}}'), /escape/],
  ['a line break in a name', tensorBytes('{"a\nb":{}}'), /control character/],
  ['a pickle', Buffer.from('\x80\x02}q\x00.', 'latin1'), /a PyTorch pickle/],
  ['a zip file', Buffer.from('PK\x03\x04 and so on', 'latin1'), /a PyTorch pickle/],
  ['a GGUF file', Buffer.from('GGUF\x03\x00\x00\x00and so on', 'latin1'), /a GGUF file/],
]

for (const [what, bytes, says] of broken) {
  test(`${what} is refused`, async (t) => {
    const path = written(bytes)
    const error = await t.throwsAsync(core.readHeader(path), { code: 'ERR_INVALID_FILE', message: says })
    t.true(error?.message.includes(path), error?.message)
  })
}

test('a missing file, a folder and a pipe are refused', async (t) => {
  const missing = join(folder, 'missing.safetensors')
  await t.throwsAsync(core.readHeader(missing), {
    code: 'ERR_INVALID_FILE',
    message: `${missing} does not exist`,
  })
  await t.throwsAsync(core.readHeader(folder), {
    code: 'ERR_INVALID_FILE',
    message: `${folder} is not a file`,
  })
  const pipe = join(folder, 'pipe')
  await promisify(execFile)('mkfifo', [pipe])
  await t.throwsAsync(core.readHeader(pipe), { code: 'ERR_INVALID_FILE', message: `${pipe} is not a file` })
})

test('what the format allows is read', async (t) => {
  const text =
    '{"__metadata__":{"__proto__":"x","\\ud83d\\ude00\\n":""},"__proto__":{"dtype":"BF16","shape":[2,2],'
  const path = written(
    tensorBytes(`${text}"data_offsets":[0,8]},"scalar":${JSON.stringify(f32(8, 12, []))}}  `, 12),
  )
  const { tensors, metadata } = await core.readHeader(path)
  t.deepEqual(tensors, [
    { name: '__proto__', dtype: 'BF16', shape: [2, 2] },
    { name: 'scalar', dtype: 'F32', shape: [] },
  ])
  t.deepEqual(Object.entries(metadata), [
    ['__proto__', 'x'],
    ['\u{1F600}\n', ''],
  ])
  t.deepEqual((await core.readHeader(written(tensorBytes('{}')))).tensors, [])
})

/** Numbers from 0 to 2 ** 32 - 1 (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let z = Math.imul(state ^ (state >>> 15), 1 | state)
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z
    return ((z ^ (z >>> 14)) >>> 0) % below
  }
}

test('3000 damaged headers: each is read rightly or refused', async (t) => {
  const random = randomOf(7)
  const metadata = { format: 'pt', __proto: 'é😀' }
  const whole = JSON.stringify({
    __metadata__: metadata,
    a: f32(0, 8),
    'b.c': f32(8, 24, [2, 2]),
    d: f32(24, 24),
  })
  const pieces = [
    '"',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '0',
    '-1',
    '1e3',
    '9'.repeat(20),
    'null',
    '\\u',
    '\0',
    ' ',
    '\xff',
  ]
  const bytesOf: Record<string, number> = {
    F32: 4,
    F16: 2,
    BF16: 2,
    F64: 8,
    I64: 8,
    I32: 4,
    I16: 2,
    I8: 1,
    U8: 1,
    BOOL: 1,
  }
  const path = join(folder, 'fuzz.safetensors')
  let [read, refused] = [0, 0]
  for (let i = 0; i < 3000; i++) {
    let header = Buffer.from(whole)
    for (let n = random(3); n >= 0; n--) {
      const at = random(header.length)
      const piece = Buffer.from(pieces[random(pieces.length)]!, 'latin1')
      const [before, after] = [header.subarray(0, at), header.subarray(at)]
      const from = random(header.length)
      const copied = header.subarray(from, from + random(40))
      header = [
        () => Buffer.concat([before, Buffer.of(random(256)), after.subarray(1)]),
        () => Buffer.concat([before, Buffer.of(48 + random(10)), after.subarray(1)]),
        () => Buffer.concat([before, piece, after]),
        () => Buffer.concat([before, after.subarray(1 + random(20))]),
        () => Buffer.concat([before, copied, after]),
        () => Buffer.concat([before, Buffer.from('  '), after]),
      ][random(6)]!()
    }
    const said = random(10) === 0 ? random(2 * header.length) : header.length
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(said))
    const file = Buffer.concat([size, header, Buffer.alloc(24)])
    writeFileSync(path, random(20) === 0 ? file.subarray(0, random(file.length)) : file)
    const shown = header.toString('latin1')
    try {
      const { tensors } = await core.readHeader(path)
      read++
      // Whatever is read is JSON, and its tensors fill the file.
      const parsed: unknown = JSON.parse(file.subarray(8, 8 + said).toString('utf8'))
      t.is(
        Object.keys(parsed as object).filter((key) => key !== '__metadata__').length,
        tensors.length,
        shown,
      )
      const bytes = tensors.reduce(
        (sum, { dtype, shape }) => sum + shape.reduce((product, n) => product * n, bytesOf[dtype]!),
        0,
      )
      t.is(bytes, file.length - 8 - said, shown)
    } catch (error) {
      const { code, message } = error as { code: string; message: string }
      refused++
      if (code !== 'ERR_INVALID_FILE' || !message.includes(path)) t.fail(`${message} of ${shown}`)
    }
  }
  t.log(`${read} read, ${refused} refused`)
  t.true(read > 100 && refused > 1000, `${read} ${refused}`)
})

const roles: RoleHandle[] = []
/** A role on a base of its own. */
async function base(seed?: number): Promise<RoleHandle> {
  const made = await core.createBase(spec, { device: 'cpu', dtype: 'float32' })
  if (seed !== undefined) await core.initialize(made, { seed, std: 0.05, residualScale: 1 })
  const role = await core.createRole(made, {})
  await core.dispose(made)
  roles.push(role)
  return role
}
test.after.always(async () => {
  for (const made of roles) await core.dispose(made)
})

async function valuesOf(of: RoleHandle): Promise<Float32Array[]> {
  const values = []
  for (const item of entries) values.push((await core.getTensor(of, item, 'value')).values)
  return values
}

const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)

test('a float32 file gives the same bits back, a bfloat16 file the rounded ones', async (t) => {
  const source = await base(3)
  const before = await valuesOf(source)
  const metadata: Record<string, string> = JSON.parse('{"format":"pt","__proto__":"\\"\\u0001\\\\é"}')
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const path = join(folder, `${dtype}.safetensors`)
    await core.saveTensors(source, path, entries, { dtype, metadata })
    const header = await core.readHeader(path)
    t.deepEqual(
      header.tensors.map(({ name }) => name),
      entries.map(({ name }) => name),
    )
    const { 'posttrain.crc32c': checksums, ...given } = header.metadata
    t.regex(checksums!, new RegExp(`^[0-9a-f]{${8 * (entries.length + 1)}}$`))
    t.deepEqual(Object.entries(given).sort(), Object.entries(metadata).sort())
    t.deepEqual(
      new Set(header.tensors.map((tensor) => tensor.dtype)),
      new Set([dtype === 'float32' ? 'F32' : 'BF16']),
    )
    t.is(Number(readFileSync(path).readBigUInt64LE(0)) % 8, 0)
    const target = await base()
    await core.loadTensors(target, [{ path, entries }])
    const after = await valuesOf(target)
    for (const [i, values] of before.entries()) {
      // Round to nearest, ties to even: what bfloat16 keeps of a float32.
      const rounded = bits(values).map((b) =>
        dtype === 'float32' ? b : ((b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000) >>> 0,
      )
      t.deepEqual(bits(after[i]!), rounded, entries[i]!.name)
    }
    if (dtype === 'float32') {
      for (const [name, { values }] of readTensors(path))
        t.deepEqual(values, before[entries.findIndex((item) => item.name === name)], name)
    }
  }
})

test('a tensor of another shape, of whole numbers or not there is refused, and the base works on', async (t) => {
  const target = await base(1)
  const norm = entries.find(({ name }) => name === 'model.norm.weight')!
  const load = (bytes: Uint8Array) => core.loadTensors(target, [{ path: written(bytes), entries: [norm] }])
  const of = (dtype: string, shape: number[], size: number) =>
    tensorBytes({ [norm.name]: { dtype, shape, data_offsets: [0, size] } }, size)
  for (const [bytes, message] of [
    [of('F32', [31], 124), /model\.norm\.weight has shape \[31\], the config expects \[32\]/],
    [of('F32', [1, 32], 128), /has shape \[1, 32\]/],
    [of('I32', [32], 128), /has dtype I32, weights must be/],
    [tensorBytes({}), /has no tensor model\.norm\.weight/],
  ] as const) {
    const error = await t.throwsAsync(load(bytes), { code: 'ERR_INVALID_FILE', message })
    t.true(error?.message.includes(folder))
  }
  await load(of('F16', [32], 64))
  t.is((await core.getTensor(target, norm, 'value')).values.length, 32)
})

test('a save where it cannot be is ERR_IO', async (t) => {
  const source = await base(2)
  const save = (path: string) => core.saveTensors(source, path, entries, { dtype: 'float32', metadata: {} })
  const nowhere = join(folder, 'nowhere/model.safetensors')
  const error = await t.throwsAsync(save(nowhere), { code: 'ERR_IO', message: /No such file or directory/ })
  t.true(error?.message.includes(nowhere))
  const taken = join(folder, 'taken')
  mkdirSync(taken)
  await t.throwsAsync(save(taken), { code: 'ERR_IO', message: /Is a directory/ })
  t.true(existsSync(taken))
  if (existsSync('/dev/full')) {
    await t.throwsAsync(save('/dev/full'), {
      code: 'ERR_IO',
      message: /writing \/dev\/full failed: No space left on device/,
    })
    t.true(existsSync('/dev/full'), 'the device was removed')
  } else t.log('skipped: there is no /dev/full')
})

test('a save that comes to no room halfway leaves no file', async (t) => {
  const child = fileURLToPath(new URL('save-child.js', import.meta.url))
  const target = join(folder, 'limited')
  mkdirSync(target)
  const path = join(target, 'model.safetensors')
  // 100 blocks of 512 bytes; the file needs 130 kB.
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    'ulimit -f 100; exec "$0" "$@"',
    process.execPath,
    child,
    path,
  ])
  const said = JSON.parse(stdout) as { code: string; message: string }
  t.is(said.code, 'ERR_IO')
  t.regex(said.message, /writing .*model\.safetensors failed: File too large/)
  t.deepEqual(readdirSync(target), [])
})
