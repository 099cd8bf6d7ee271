import type { ExecutionContext } from 'ava'
import { CausalLM, generate, sft, stream } from '../../lib/index.js'
import { device, deviceMemory, onDevice } from '../helpers/cuda.js'
import { instructionRows, tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const create = (config: object = {}) =>
  CausalLM.create({ ...tinyConfig, ...config }, { device: device!, tokenizer: byteTokenizer() })

/** Trains in the precision that is the device's default, and looks at the losses. */
async function falls(t: ExecutionContext, model: CausalLM, more: object = {}): Promise<void> {
  t.is(model.dtype, 'bfloat16')
  const losses: number[] = []
  const run = sft({
    model,
    data: instructionRows(64),
    template: 'plain',
    maxLength: 64,
    learningRate: 3e-3,
    batchSize: 32,
    maxSteps: 60,
    ...more,
  })
  for await (const event of run) if (event.type === 'step') losses.push(event.loss)
  t.is(losses.length, 60)
  t.true(losses.every(Number.isFinite))
  const last = losses.slice(-5).reduce((sum, loss) => sum + loss, 0) / 5
  t.true(last < 0.7 * losses[0]!, `${losses[0]} to ${last}`)
}

onDevice('a training in bfloat16 brings the loss down, with and without checkpointing', async (t) => {
  for (const activationCheckpointing of [false, true]) {
    await using model = await create()
    await falls(t, model, { activationCheckpointing })
  }
})

onDevice('a LoRA training in bfloat16 brings the loss down and leaves the base as it is', async (t) => {
  await using model = await create()
  // A base that can write already, as those that adapters are put on.
  await falls(t, model)
  const name = 'model.layers.0.self_attn.q_proj.weight'
  const before = (await model.getParameter(name)).values
  const losses: number[] = []
  const data = instructionRows(64, 500)
  const run = sft({
    model,
    data,
    lora: { rank: 8 },
    template: 'plain',
    maxLength: 64,
    learningRate: 1e-2,
    batchSize: 32,
    maxSteps: 60,
  })
  for await (const event of run) if (event.type === 'step') losses.push(event.loss)
  t.true(losses.at(-1)! < losses[0]!, `${losses[0]} to ${losses.at(-1)}`)
  t.deepEqual((await model.getParameter(name)).values, before)
})

onDevice('generation: together, alone and as a stream give the same answers', async (t) => {
  await using model = await create()
  await falls(t, model)
  const prompts = ['3+3=?', '12+5=?', '7']
  const options = { maxNewTokens: 24 }
  const together = await generate(model, prompts, options)
  t.true(together.every(({ tokenIds }) => tokenIds.length > 0))
  const [alone] = await generate(model, prompts.slice(0, 1), options)
  const text = ['', '', '']
  for await (const piece of stream(model, prompts, options)) text[piece.index] += piece.text
  t.deepEqual(
    text,
    together.map((completion) => completion.text),
  )
  // In bfloat16 another batch may round otherwise: the first tokens decide whether it is the same computation.
  t.deepEqual([...alone!.tokenIds].slice(0, 2), [...together[0]!.tokenIds].slice(0, 2))
})

onDevice(
  'out of memory is a typed error, a smaller batch works after it, and dispose gives all back',
  async (t) => {
    const vocabulary = 100_000
    const texts = (documents: number) => {
      const length = 200
      return {
        inputIds: Int32Array.from({ length: documents * length }, (_, i) => i % 250),
        offsets: Int32Array.from({ length: documents + 1 }, (_, i) => i * length),
      }
    }
    const use = async (body: (model: CausalLM) => Promise<void>) => {
      await using model = await create({ vocab_size: vocabulary })
      await body(model)
    }
    // What libraries keep for themselves is there after the first use.
    await use(async (model) => void (await model.logits(texts(1))))
    const before = await deviceMemory()
    await use(async (model) => {
      const documents = Math.ceil((1.5 * before.totalBytes) / (4 * vocabulary * 200))
      const error = await t.throwsAsync(model.logits(texts(documents)), { code: 'ERR_OUT_OF_MEMORY' })
      t.regex(error.message, /batchSize/)
      t.is((await model.logits(texts(1))).length, 200 * vocabulary)
      const batch = { ...texts(2), labels: texts(2).inputIds }
      const { loss } = await model.backward(batch, { kind: 'crossEntropy' })
      t.true(Number.isFinite(loss))
      t.true((await deviceMemory()).allocatedBytes > before.allocatedBytes)
    })
    const after = await deviceMemory()
    t.is(after.allocatedBytes, before.allocatedBytes)
    t.true(after.reservedBytes <= before.reservedBytes, `${after.reservedBytes} of ${before.reservedBytes}`)
  },
)
