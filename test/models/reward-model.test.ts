import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { AdamW, CausalLM, RewardModel } from '../../lib/index.js'
import { close, distance, norm } from '../helpers/close.js'
import { type Expected, fixture, packedTexts, readJson, readTensors } from '../helpers/fixtures.js'
import { NO_PEFT, peftCheck } from '../helpers/peft.js'
import { newFolder } from '../helpers/scratch.js'
import { tensorBytes } from '../helpers/tensor-bytes.js'

/** What expected.json beside a classifier says. */
interface Judged extends Pick<Expected, 'gradients' | 'losses' | 'gradNorms' | 'optimizer' | 'loss'> {
  texts: number[][]
  pairs: [number, number][]
  margins: number[]
  center: number
  scores: number[]
  plainLoss: number
}

const CASES = ['gpt2', 'llama', 'qwen2', 'gemma3', 'llama-lora']

async function open(name: string): Promise<RewardModel> {
  if (!name.endsWith('-lora')) return await RewardModel.load(fixture('reward', name))
  await using base = await CausalLM.load(fixture('models', name.replace('-lora', '')))
  const model = await RewardModel.fromCausalLM(base, { seed: null })
  await model.loadAdapter('peft', fixture('reward', name))
  return model
}

function expectedOf(name: string) {
  const expected = readJson<Judged>(fixture('reward', name, 'expected.json'))
  const { texts, pairs, margins, center } = expected
  return {
    expected,
    tensors: readTensors(fixture('reward', name, 'expected.safetensors')),
    ids: texts.map((text) => Int32Array.from(text)),
    batch: packedTexts(texts),
    term: {
      kind: 'pairwiseReward',
      pairs: Int32Array.from(pairs.flat()),
      margins: Float64Array.from(margins),
      center,
    } as const,
  }
}

/** PEFT keeps the head under the name that it has in an adapter's file. */
const ours = (name: string) => (name.endsWith('score.weight') ? 'score.weight' : name)

/** A key's bias has no true gradient: the second third of gpt2's fused one, and qwen2's own, are left out. */
function counted(name: string, values: Float32Array): Float32Array {
  if (name.endsWith('k_proj.bias')) return new Float32Array()
  const third = values.length / 3
  return name.endsWith('c_attn.bias') ? values.slice().fill(0, third, 2 * third) : values
}

for (const name of CASES) {
  test(`${name}: scores and losses of a model made elsewhere are transformers' in float64`, async (t) => {
    const { expected, ids, batch, term } = expectedOf(name)
    await using model = await open(name)
    close(t, await model.scores(ids), expected.scores, { absolute: 1e-4 }, 'score')
    // In a batch of one, and cut into prompt and response, a text has the score that it has among others.
    const [alone] = await model.scores([{ promptIds: ids[2]!.slice(0, 5), completionIds: ids[2]!.slice(5) }])
    close(t, alone!, expected.scores[2]!, { absolute: 1e-4 }, 'alone')
    const { loss, lossSum, count } = await model.evaluate(batch, term)
    t.is(loss, lossSum / count)
    close(t, loss, expected.loss, { absolute: 1e-5 }, 'loss')
    const plain = await model.evaluate(batch, { kind: 'pairwiseReward', pairs: term.pairs })
    close(t, plain.loss, expected.plainLoss, { absolute: 1e-5 }, 'without margins')
  })

  test(`${name}: gradients are within three times float32's own error, and five AdamW steps are torch's`, async (t) => {
    const { expected, tensors, batch, term } = expectedOf(name)
    const { learningRate, weightDecay, maxGradNorm, steps } = expected.optimizer
    await using model = await open(name)
    await model.backward(batch, term)
    for (const [key, [size, own]] of Object.entries(expected.gradients)) {
      const off = distance((await model.getGradient(ours(key))).values, tensors.get(`grad.${key}`)!.values)
      t.true(off <= 3 * own + 1e-7 * size, `${key} is off by ${off}; float32 itself by ${own} of ${size}`)
    }
    const deltas = [...tensors].filter(([key]) => key.startsWith('delta.'))
    const before = new Map<string, Float32Array>()
    for (const { name: key } of await model.parameters())
      before.set(key, (await model.getParameter(key)).values)
    const optimizer = new AdamW(model, { learningRate, weightDecay })
    for (let step = 0; step < steps; step++) {
      await optimizer.zeroGrad()
      const { loss } = await model.backward(batch, term)
      close(t, loss, expected.losses[step]!, { absolute: 2e-5 }, `loss of step ${step}`)
      const { gradNorm } = await optimizer.step({ maxGradNorm })
      close(t, gradNorm, expected.gradNorms[step]!, { relative: 1e-4 }, `gradient norm of step ${step}`)
    }
    await optimizer.dispose()
    let [off, all] = [0, 0]
    for (const [key, { values }] of deltas) {
      const parameter = ours(key.slice('delta.'.length))
      const start = before.get(parameter)!
      const moved = (await model.getParameter(parameter)).values.map((value, i) => value - start[i]!)
      off += distance(counted(parameter, moved), counted(parameter, values)) ** 2
      all += norm(counted(parameter, values)) ** 2
    }
    t.true(Math.sqrt(off / all) <= 1e-3, `the update is off by ${Math.sqrt(off / all)}`)
  })
}

test.serial(
  'what is saved of a model made elsewhere has its scores in transformers, padded too',
  async (t) => {
    const { ids, expected } = expectedOf('qwen2')
    await using model = await open('qwen2')
    const saved = join(newFolder(t), 'saved')
    await model.save(saved)
    const theirs = await peftCheck({ score: saved }, expected.texts)
    if (theirs === null) t.log(NO_PEFT)
    close(t, theirs?.scores ?? expected.scores, expected.scores, { absolute: 1e-4 })
    close(t, theirs?.padded ?? expected.scores, expected.scores, { absolute: 1e-4 })
    await using again = await RewardModel.load(saved)
    t.deepEqual(await again.scores(ids), await model.scores(ids))
  },
)

test('an adapter with a head opens by its folder, merges into a plain classifier, and works on a classifier too', async (t) => {
  const { ids, expected } = expectedOf('llama-lora')
  const parent = newFolder(t)
  const folder = join(parent, 'adapter')
  cpSync(fixture('reward/llama-lora'), folder, { recursive: true })
  const path = join(folder, 'adapter_config.json')
  const config = readJson<Record<string, unknown>>(path)
  const basedOn = (base: string) =>
    writeFileSync(path, JSON.stringify({ ...config, base_model_name_or_path: base }))
  basedOn(fixture('models/llama'))
  await using model = await RewardModel.load(folder)
  close(t, await model.scores(ids), expected.scores, { absolute: 1e-4 }, 'opened')
  await model.mergeAdapter()
  close(t, await model.scores(ids), expected.scores, { absolute: 1e-4 }, 'merged')
  const merged = join(parent, 'merged')
  await t.throwsAsync(model.save(merged), { code: 'ERR_INVALID_ARGUMENT', message: /padToken/ })
  await model.save(merged, { padToken: 'a' })

  // The merged classifier is a base in its turn.
  await using onto = await RewardModel.load(merged)
  await onto.addAdapter('new', { rank: 2 })
  const second = join(parent, 'second')
  await onto.saveAdapter(second)
  await using again = await RewardModel.load(second)
  close(t, await again.scores(ids), expected.scores, { absolute: 1e-4 }, 'again')
  basedOn(join(parent, 'nowhere'))
  await t.throwsAsync(RewardModel.load(folder), { code: 'ERR_INVALID_FILE', message: /nowhere/ })
})

test('anything but a reward model is refused by name', async (t) => {
  const load = (fields: object) => {
    const folder = join(newFolder(t), 'model')
    cpSync(fixture('reward/llama'), folder, { recursive: true })
    const path = join(folder, 'config.json')
    writeFileSync(path, JSON.stringify({ ...readJson<object>(path), ...fields }))
    return RewardModel.load(folder)
  }
  await t.throwsAsync(load({ id2label: { 0: 'a', 1: 'b', 2: 'c' } }), {
    code: 'ERR_UNSUPPORTED_MODEL',
    message: /one label, this has 3/,
  })
  await t.throwsAsync(RewardModel.load(fixture('models/llama')), { code: 'ERR_UNSUPPORTED_MODEL' })
  await using model = await RewardModel.load(fixture('reward/llama'))
  await t.throwsAsync(model.loadAdapter('language', fixture('adapters/llama')), { code: 'ERR_INVALID_FILE' })
  // A head of two labels: refused before the base is frozen for it.
  const folder = join(newFolder(t), 'two')
  cpSync(fixture('reward/llama-lora'), folder, { recursive: true })
  const path = join(folder, 'adapter_model.safetensors')
  let end = 0
  const header = Object.fromEntries(
    [...readTensors(path)].map(([name, { shape }]) => {
      const own = name.endsWith('score.weight') ? [2, 24] : shape
      const begin = end
      end += 4 * own.reduce((product, size) => product * size, 1)
      return [name, { dtype: 'F32', shape: own, data_offsets: [begin, end] }]
    }),
  )
  writeFileSync(path, tensorBytes(header, end))
  await using language = await CausalLM.load(fixture('models/llama'))
  await using judge = await RewardModel.fromCausalLM(language)
  await t.throwsAsync(judge.loadAdapter('two', folder), {
    code: 'ERR_INVALID_FILE',
    message: /score\.weight has shape \[2, 24\], a reward head/,
  })
  t.true((await language.parameters()).every(({ trainable }) => trainable))
  await t.throwsAsync(model.scores([new Int32Array()]), { code: 'ERR_INVALID_ARGUMENT', message: /text 0/ })
})
