import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { AdamW, CausalLM } from '../../lib/index.js'
import { loadHooks } from '../bindings/hooks.js'
import { adamwStep as options, adamwValues as values } from '../helpers/adamw.js'
import { close } from '../helpers/close.js'
import { tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const { hooks } = await loadHooks()
const grads = Array.from({ length: 5 }, (_, i) => values(`grad.${i + 1}`))

test('the codes are those of bitsandbytes', (t) => {
  t.deepEqual(hooks.dynamicCode(true), values('code.signed'))
  t.deepEqual(hooks.dynamicCode(false), values('code.unsigned'))
})

for (const byOperations of [false, true]) {
  test(`AdamW with moments in 8 bits steps as bitsandbytes codes them, ${byOperations ? "by torch's operations" : 'by our loop'}`, (t) => {
    const steps = hooks.adamwBlockwise(values('value'), grads, { ...options, byOperations })
    t.is(steps.length, 5)
    for (const [i, after] of steps.entries()) {
      for (const name of ['first.codes', 'second.codes'] as const) {
        const expected = values(`${name}.${i + 1}`)
        // A value halfway between two of the code may go to either by a rounding of the step.
        close(t, after[name], expected, { absolute: 1 }, `${name} of step ${i + 1}`)
        t.true(after[name].filter((code, at) => code !== expected[at]).length <= 1)
      }
      for (const name of ['value', 'first.scales', 'second.scales'] as const)
        close(t, after[name], values(`${name}.${i + 1}`), { relative: 1e-6, absolute: 1e-7 }, name)
    }
  })
}

const config = { ...tinyConfig, hidden_size: 64, intermediate_size: 128 }
const inputIds = Int32Array.from({ length: 64 }, (_, i) => (i * i) % 200)
const batch = { inputIds, labels: inputIds, offsets: Int32Array.of(0, 32, 64) }

async function steps(model: CausalLM, optimizer: AdamW, count: number): Promise<number[]> {
  const losses: number[] = []
  for (let step = 0; step < count; step++) {
    await optimizer.zeroGrad()
    losses.push((await model.backward(batch, { kind: 'crossEntropy' })).loss)
    await optimizer.step({ maxGradNorm: 1 })
  }
  return losses
}

test('rounded moments bring the loss where float32 moments bring it', async (t) => {
  const last: number[] = []
  for (const moments of ['float32', '8bit', 'bfloat16'] as const) {
    await using model = await CausalLM.create(config, { seed: 3, tokenizer: byteTokenizer() })
    await using optimizer = new AdamW(model, { learningRate: 3e-3, moments })
    const losses = await steps(model, optimizer, 30)
    t.true(losses.at(-1)! < losses[0]! / 3)
    last.push(losses.at(-1)!)
  }
  t.is(new Set(last).size, 3)
  for (const rounded of last.slice(1)) t.true(Math.abs(last[0]! - rounded) < 0.1, last.join(' '))
})

for (const moments of ['8bit', 'bfloat16'] as const)
  test(`an optimizer with moments in ${moments} goes on from its file to the bit, and only with such moments`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'posttrain-'))
    t.teardown(() => rm(folder, { recursive: true }))
    const [file, weights] = [join(folder, 'optimizer.safetensors'), join(folder, 'model')]
    await using model = await CausalLM.create(config, { seed: 3, tokenizer: byteTokenizer() })
    await using optimizer = new AdamW(model, { learningRate: 3e-3, moments })
    await steps(model, optimizer, 3)
    await optimizer.save(file)
    await model.save(weights)
    const expected = await steps(model, optimizer, 3)
    await using again = await CausalLM.load(weights)
    await using resumed = new AdamW(again, { learningRate: 3e-3, moments })
    await resumed.load(file)
    t.deepEqual(await steps(again, resumed, 3), expected)
    await using other = new AdamW(again, { learningRate: 3e-3 })
    await t.throwsAsync(other.load(file), { code: 'ERR_INVALID_FILE' })
  })

test('the state of moments in 8 bits is a byte a value, but of embeddings and small vectors', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'posttrain-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await using model = await CausalLM.create(config, { seed: 3, tokenizer: byteTokenizer() })
  await using optimizer = new AdamW(model, { learningRate: 3e-3, moments: '8bit' })
  await optimizer.save(join(folder, 'optimizer.safetensors'))
  const bytes = await readFile(join(folder, 'optimizer.safetensors'))
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString()) as Record<
    string,
    { dtype: string; shape: number[] }
  >
  const { dtype, shape } = header['layers.0.qkv.weight.first.codes']!
  t.deepEqual([dtype, shape], ['U8', [64, 64]])
  t.deepEqual(header['layers.0.qkv.weight.second.scales']!.shape, [16])
  t.is(header['embed.weight.first']!.dtype, 'F32')
  t.is(header['norm.weight.second']!.dtype, 'F32')
})

test('a block of gradients too small for a scale leaves its moments at zero', (t) => {
  const tiny = new Float32Array(300).fill(1e-30)
  for (const byOperations of [false, true]) {
    const [after] = hooks.adamwBlockwise(new Float32Array(300).fill(1), [tiny], { ...options, byOperations })
    t.true(after!.value.every(Number.isFinite))
    t.true(after!['second.scales'].every((scale) => scale === 0))
    t.true(after!['second.codes'].every((code) => code === 0))
  }
})
