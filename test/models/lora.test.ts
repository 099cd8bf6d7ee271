import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { AdamW, CausalLM, generate } from '../../lib/index.js'
import { adapted, openAdapter } from '../helpers/adapters.js'
import { close, distance, norm } from '../helpers/close.js'
import { readJson, readTensors } from '../helpers/fixtures.js'
import { NO_PEFT, peftChecks } from '../helpers/peft.js'
import { newFolder } from '../helpers/scratch.js'
import { weightsOf } from '../helpers/tiny-training.js'

type Json = Record<string, unknown>

const CASES = [
  'gpt2',
  'gpt2-dora',
  'llama',
  'llama-rslora',
  'llama-dora',
  'llama-subset',
  'mistral',
  'qwen2',
  'qwen3',
  'gemma3',
  'llama-patterns',
  'llama-layers',
  'qwen2-regex',
  'llama-pissa',
  'mistral-olora',
  'gpt2-pissa',
  'llama-pissa-converted',
  'llama-embedding',
  'llama-head',
  'qwen3-embeddings',
  'qwen3-dora-embeddings',
  'gemma3-embedding',
  'gpt2-embeddings',
  'llama-tied-embeddings',
  'llama-saved-embedding',
  'llama-saved-both',
  'llama-saved-tied',
  'qwen3-saved',
  'gpt2-saved',
  'gpt2-bias',
  'qwen2-bias',
  'llama-tokens',
  'qwen3-tokens',
]
const TERM = { kind: 'crossEntropy' } as const

interface Saved {
  name: string
  base: string
  adapter: string
  documents: number[][]
  logits: Float32Array
  greedy: number[][]
}

/** A tied head that gets other weights than the embedding becomes a parameter of its own when they are merged. */
const UNTIED = [
  'llama-embedding',
  'llama-head',
  'gemma3-embedding',
  'gpt2-embeddings',
  'llama-saved-embedding',
  'llama-saved-both',
]

/** PEFT takes the residual of a decomposition in float32, in each of its runs the same, to which ours is equal within rounding. */
const isTakenOut = (name: string) => name.endsWith('pissa') || name.endsWith('olora')

/** In float64 transformers' root mean square norms and rotation stay float32: only gpt2 can be compared more closely. */
const dtypesOf = (name: string) =>
  name.startsWith('gpt2') && !isTakenOut(name) ? (['float32', 'float64'] as const) : (['float32'] as const)

async function trainedNames(model: CausalLM): Promise<string[]> {
  return (await model.parameters()).filter(({ trainable }) => trainable).map(({ name }) => name)
}

for (const name of CASES) {
  test(`${name}: logits and loss with PEFT's adapter are PEFT's in float64`, async (t) => {
    const { batch, expected, truth } = openAdapter(name)
    for (const dtype of dtypesOf(name)) {
      const absolute = dtype === 'float64' ? 1e-6 : 1e-4
      await using model = await adapted(name, { dtype })
      close(t, await model.logits(batch), truth, { absolute }, `${dtype} logits`)
      const sums = await model.evaluate(batch, TERM)
      t.is(sums.labels, expected.count)
      close(t, sums.loss, expected.loss, { absolute: absolute / 10 }, 'loss')
    }
  })

  test(`${name}: the adapter's gradients are within three times PEFT's own float32 error, the base has none`, async (t) => {
    const { batch, expected, tensors } = openAdapter(name)
    for (const dtype of dtypesOf(name)) {
      for (const checkpointing of [false, true]) {
        await using model = await adapted(name, { dtype })
        const { loss } = await model.backward(batch, TERM, { checkpointing })
        close(t, loss, expected.loss, { absolute: 1e-5 }, 'loss')
        t.deepEqual((await trainedNames(model)).sort(), Object.keys(expected.gradients).sort())
        for (const [key, [size, own]] of Object.entries(expected.gradients)) {
          const off = distance((await model.getGradient(key)).values, tensors.get(`grad.${key}`)!.values)
          const most = dtype === 'float64' ? 1e-6 * size : 3 * own + (isTakenOut(name) ? 2e-5 : 1e-7) * size
          t.true(off <= most, `${dtype} ${key} is off by ${off}; float32 itself by ${own} of ${size}`)
        }
      }
    }
  })

  test(`${name}: five AdamW steps move the adapter as torch's do, and the base stays`, async (t) => {
    const { batch, expected, tensors } = openAdapter(name)
    await using model = await adapted(name)
    const { learningRate, weightDecay, maxGradNorm, steps } = expected.optimizer
    const optimizer = new AdamW(model, { learningRate, weightDecay })
    const before = await weightsOf(model)
    for (let step = 0; step < steps; step++) {
      await optimizer.zeroGrad()
      const { loss } = await model.backward(batch, TERM)
      close(t, loss, expected.losses[step]!, { absolute: 2e-5 }, `loss of step ${step}`)
      const { gradNorm } = await optimizer.step({ maxGradNorm })
      close(t, gradNorm, expected.gradNorms[step]!, { relative: 1e-4 }, `gradient norm of step ${step}`)
    }
    await optimizer.dispose()
    let [off, all] = [0, 0]
    for (const [parameter, values] of await weightsOf(model)) {
      const start = before.get(parameter)!
      const delta = tensors.get(`delta.${parameter}`)
      if (delta === undefined) {
        t.deepEqual(values, start, `${parameter} is frozen`)
        continue
      }
      const moved = values.map((value, i) => value - start[i]!)
      // A bias of keys changes no attention: its gradient is rounding, which AdamW magnifies.
      if (parameter.endsWith('.bias')) {
        const gradient = tensors.get(`grad.${parameter}`)!.values
        for (const [i, slope] of gradient.entries()) if (Math.abs(slope) < 1e-12) moved[i] = delta.values[i]!
      }
      off += distance(moved, delta.values) ** 2
      all += norm(delta.values) ** 2
    }
    const relative = Math.sqrt(off / all)
    t.true(relative <= 1e-3, `the update is off by ${relative}`)
  })

  test(`${name}: what is saved is what PEFT saved`, async (t) => {
    const { folder } = openAdapter(name)
    const saved = join(newFolder(t), 'adapter')
    await using model = await adapted(name)
    await model.saveAdapter(saved)
    t.deepEqual(
      new Map([...readTensors(join(saved, 'adapter_model.safetensors'))].sort()),
      new Map([...readTensors(join(folder, 'adapter_model.safetensors'))].sort()),
    )
    const [written, theirs] = [saved, folder].map((f) => readJson<Json>(join(f, 'adapter_config.json')))
    for (const field of [
      'target_modules',
      'layers_to_transform',
      'rank_pattern',
      'alpha_pattern',
      'ensure_weight_tying',
      'trainable_token_indices',
      'init_lora_weights',
      'peft_type',
      'task_type',
      'r',
      'lora_alpha',
      'lora_dropout',
      'fan_in_fan_out',
      'bias',
      'use_rslora',
      'use_dora',
      'modules_to_save',
    ])
      t.deepEqual(written![field], theirs![field], field)
    t.true(readdirSync(saved).includes('tokenizer.json'))
  })

  test(`${name}: merged, the base alone gives the adapter's logits; saved, it is a plain model`, async (t) => {
    const { base, batch, truth } = openAdapter(name)
    const saved = join(newFolder(t), 'merged')
    await using model = await adapted(name)
    const plain = (await weightsOf(await CausalLM.load(base))).keys()
    await t.throwsAsync(model.save(saved), { code: 'ERR_INVALID_ARGUMENT', message: /mergeAdapter/ })
    await model.mergeAdapter()
    t.is(model.adapter, null)
    t.deepEqual(model.adapters, [])
    close(t, await model.logits(batch), truth, { absolute: 1e-4 }, 'merged logits')
    await model.save(saved)
    await using again = await CausalLM.load(saved)
    close(t, await again.logits(batch), truth, { absolute: 1e-4 }, 'logits of the saved model')
    const names = [...plain]
    if (UNTIED.includes(name)) names.push('lm_head.weight')
    t.deepEqual([...(await weightsOf(again)).keys()], names)
    t.is(again.config.tie_word_embeddings, UNTIED.includes(name) ? false : model.config.tie_word_embeddings)
  })
}

test.serial(
  'PEFT opens what we saved of trained adapters, with the same keys and equal logits',
  async (t) => {
    const folder = newFolder(t)
    const saved: Saved[] = []
    for (const name of CASES) {
      const { base, batch, documents } = openAdapter(name)
      const adapter = join(folder, name)
      await using model = await adapted(name)
      const optimizer = new AdamW(model, { learningRate: 1e-2 })
      await model.backward(batch, TERM)
      await optimizer.step()
      await optimizer.dispose()
      await model.saveAdapter(adapter)
      const logits = await model.logits(batch)
      t.true(distance(logits, openAdapter(name).truth) > 0.01, name)
      const prompts = documents.map((ids) => Int32Array.from(ids))
      const answers = await generate(model, prompts, { maxNewTokens: 8, stopIds: [] })
      const greedy = answers.map(({ tokenIds }) => [...tokenIds])
      saved.push({ name, base, adapter, documents, logits, greedy })
    }
    const all = await peftChecks(
      saved.map(({ base, adapter, documents }) => ({ base, adapter, texts: documents })),
    )
    if (all === null) {
      t.log(NO_PEFT)
      t.is(saved.length, CASES.length)
    }
    for (const [i, theirs] of (all ?? []).entries()) {
      const { name, logits, greedy } = saved[i]!
      close(t, logits, theirs.logits.flat(), { absolute: 1e-4 }, `${name}: logits`)
      t.deepEqual(greedy, theirs.greedy, `${name}: greedy`)
    }
  },
)
