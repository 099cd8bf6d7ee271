import test, { type ExecutionContext } from 'ava'
import { AdamW, CausalLM, generate, type PaddedBatch } from '../../lib/index.js'
import { close, distance, norm } from '../helpers/close.js'
import { type Expected, fixture, packed, readJson, readTensors } from '../helpers/fixtures.js'

const FAMILIES = ['gpt2', 'llama', 'mistral', 'qwen2', 'qwen2-sliding', 'qwen3', 'gemma3']
const TERM = { kind: 'crossEntropy' } as const

function open(name: string) {
  return {
    folder: fixture('models', name),
    expected: readJson<Expected>(fixture('models', name, 'expected.json')),
    tensors: readTensors(fixture('models', name, 'expected.safetensors')),
  }
}

function padded({ documents, labels }: Expected, side: 'left' | 'right'): PaddedBatch {
  const columns = Math.max(...documents.map(({ length }) => length)) + 2
  const row = (values: number[], fill: number) => {
    const padding = Array<number>(columns - values.length).fill(fill)
    return side === 'right' ? [...values, ...padding] : [...padding, ...values]
  }
  return {
    inputIds: Int32Array.from(documents.flatMap((ids) => row(ids, 0))),
    attentionMask: Int32Array.from(
      documents.flatMap((ids) =>
        row(
          ids.map(() => 1),
          0,
        ),
      ),
    ),
    labels: Int32Array.from(labels.flatMap((ids) => row(ids, -100))),
    rows: documents.length,
    columns,
  }
}

/**
 * Without rotation the softmax does not see a key bias, so its true gradient is zero: gpt2's fused bias is compared
 * without its key third.
 */
function withoutKeys(name: string, values: Float32Array): Float32Array {
  if (!name.endsWith('c_attn.bias')) return values
  const third = values.length / 3
  return Float32Array.from([...values.subarray(0, third), ...values.subarray(2 * third)])
}

for (const name of FAMILIES) {
  test(`${name}: logits and loss are those of transformers in float64`, async (t) => {
    const { folder, expected, tensors } = open(name)
    const model = await CausalLM.load(folder)
    const batch = packed(expected)
    const logits = await model.logits(batch)
    const truth = expected.documents.flatMap((_, i) => [...tensors.get(`logits.${i}`)!.values])
    close(t, logits, truth, { absolute: 1e-4 }, 'logits')
    for (const form of [batch, padded(expected, 'right'), padded(expected, 'left')]) {
      const sums = await model.evaluate(form, TERM)
      t.is(sums.labels, expected.count)
      close(t, sums.loss, expected.loss, { absolute: 1e-5 }, 'loss')
    }
    await model.dispose()
  })

  test(`${name}: gradients are within three times transformers' own float32 error`, async (t) => {
    const { folder, expected, tensors } = open(name)
    for (const checkpointing of [false, true]) {
      const model = await CausalLM.load(folder)
      const { loss } = await model.backward(packed(expected), TERM, { checkpointing })
      close(t, loss, expected.loss, { absolute: 1e-5 }, 'loss')
      await checkGradients(t, model, expected, tensors)
      await model.dispose()
    }
  })

  test(`${name}: five AdamW steps move the weights as torch's do`, async (t) => {
    const { folder, expected, tensors } = open(name)
    const model = await CausalLM.load(folder)
    const { learningRate, weightDecay, maxGradNorm, steps } = expected.optimizer
    const optimizer = new AdamW(model, { learningRate, weightDecay })
    const parameters = await model.parameters()
    const before = new Map<string, Float32Array>()
    for (const parameter of parameters)
      before.set(parameter.name, (await model.getParameter(parameter.name)).values)
    for (let step = 0; step < steps; step++) {
      await optimizer.zeroGrad()
      const { loss } = await model.backward(packed(expected), TERM)
      close(t, loss, expected.losses[step]!, { absolute: 2e-5 }, `loss of step ${step}`)
      const { gradNorm, applied } = await optimizer.step({ maxGradNorm })
      t.true(applied)
      close(t, gradNorm, expected.gradNorms[step]!, { relative: 1e-4 }, `gradient norm of step ${step}`)
    }
    let [off, all] = [0, 0]
    for (const parameter of parameters) {
      const after = (await model.getParameter(parameter.name)).values
      const start = before.get(parameter.name)!
      const moved = withoutKeys(
        parameter.name,
        after.map((value, i) => value - start[i]!),
      )
      const truth = withoutKeys(parameter.name, tensors.get(`delta.${parameter.name}`)!.values)
      off += distance(moved, truth) ** 2
      all += norm(truth) ** 2
    }
    const relative = Math.sqrt(off / all)
    t.true(relative <= 1e-3, `the update is off by ${relative}`)
    await optimizer.dispose()
    await model.dispose()
  })

  test(`${name}: greedy responses of a ragged batch are transformers'`, async (t) => {
    const { folder, expected } = open(name)
    const model = await CausalLM.load(folder)
    const prompts = expected.prompts.map((ids) => Int32Array.from(ids))
    const options = { maxNewTokens: 14, stopIds: [], logProbs: true }
    const together = await generate(model, prompts, options)
    t.deepEqual(
      together.map(({ tokenIds }) => [...tokenIds]),
      expected.continuations,
    )
    const scored = await model.logProbs(
      prompts.map((promptIds, i) => ({ promptIds, completionIds: together[i]!.tokenIds })),
    )
    for (const [i, { logProbs }] of together.entries())
      close(t, logProbs!, scored[i]!.perToken, { absolute: 1e-4 }, 'log-probs')
    await model.dispose()
  })

  test(`${name}: packed, one by one and accumulated give the same gradient`, async (t) => {
    const { folder, expected } = open(name)
    const model = await CausalLM.load(folder)
    const whole = await model.backward(packed(expected), TERM)
    const together = await allGradients(model)
    await model.zeroGrad()
    let loss = 0
    for (const [i, document] of expected.documents.entries()) {
      const one = packed({ documents: [document], labels: [expected.labels[i]!] })
      loss += (await model.backward(one, TERM, { normalizer: expected.count })).loss
    }
    close(t, loss, whole.loss, { absolute: 1e-5 }, 'loss')
    for (const [parameter, values] of await allGradients(model))
      close(t, values, together.get(parameter)!, { absolute: 1e-5 }, parameter)
    await model.dispose()
  })
}

async function allGradients(model: CausalLM): Promise<Map<string, Float32Array>> {
  const gradients = new Map<string, Float32Array>()
  for (const { name } of await model.parameters()) gradients.set(name, (await model.getGradient(name)).values)
  return gradients
}

async function checkGradients(
  t: ExecutionContext,
  model: CausalLM,
  expected: Expected,
  tensors: ReturnType<typeof readTensors>,
) {
  const names = (await model.parameters()).map(({ name }) => name)
  // A tied head is one parameter; transformers lists it once too.
  t.deepEqual(names.toSorted(), Object.keys(expected.gradients).toSorted())
  for (const name of names) {
    const { values } = await model.getGradient(name)
    const truth = tensors.get(`grad.${name}`)!.values
    const [size, own] = expected.gradients[name]!
    if (name.endsWith('c_attn.bias')) {
      const third = values.length / 3
      const [query, key] = [values.subarray(0, third), values.subarray(third, 2 * third)]
      t.true(norm(key) <= 1e-6 * norm(query), `${name}: ${norm(key)} where the truth is zero`)
    }
    const off = distance(withoutKeys(name, values), withoutKeys(name, truth))
    t.true(off <= 3 * own + 1e-7 * size, `${name} is off by ${off}; float32 itself by ${own} of ${size}`)
  }
}
