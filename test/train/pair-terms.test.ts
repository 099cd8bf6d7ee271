import test from 'ava'
import type { CausalLM } from '../../lib/index.js'
import { dpoLoss } from '../../lib/losses/index.js'
import type { TermOf } from '../../lib/models/terms.js'
import { PAIR_LOSS_NAMES } from '../../lib/options/pair-losses.js'
import { close } from '../helpers/close.js'
import { tinyModel } from '../helpers/tiny-training.js'

const pairs = Int32Array.of(0, 1)
const referenceSums = Float64Array.of(-14, -29)

/** Two documents of one pair: a prompt and a response with labels, and text after it without. */
function batchOf(model: CausalLM, after: string) {
  const documents = [' yes', ' not at'].map((response) => {
    const parts = ['Q:', response, after].map((text) => [...model.tokenizer.encode(text)])
    return { ids: parts.flat(), labels: parts.flatMap((part, i) => (i === 1 ? part : part.map(() => -100))) }
  })
  const [first] = documents
  return {
    inputIds: Int32Array.from(documents.flatMap(({ ids }) => ids)),
    labels: Int32Array.from(documents.flatMap(({ labels }) => labels)),
    offsets: Int32Array.of(0, first!.ids.length, documents.flatMap(({ ids }) => ids).length),
  }
}

async function gradientsOf(model: CausalLM, after: string, term: TermOf<'dpo'>) {
  await model.zeroGrad()
  const { loss } = await model.backward(batchOf(model, after), term, { normalizer: 1 })
  const names = (await model.parameters()).map(({ name }) => name)
  const gradients = await Promise.all(names.map(async (name) => (await model.getGradient(name))!.values))
  return { loss, gradients: gradients.flatMap((values) => Array.from(values)) }
}

test('a term without numbers has the defaults of its loss, as the plain function', async (t) => {
  await using model = await tinyModel()
  const responses = [' yes', ' not at'].map((text) => model.tokenizer.encode(text))
  const rows = responses.map((completionIds) => ({ promptIds: model.tokenizer.encode('Q:'), completionIds }))
  const [chosen, rejected] = await model.logProbs(rows)
  for (const loss of PAIR_LOSS_NAMES) {
    const { lossSum } = await model.evaluate(batchOf(model, ''), { kind: 'dpo', loss, pairs, referenceSums })
    const expected = await dpoLoss({
      kind: loss,
      chosenLogProbs: Float64Array.of(chosen!.sum),
      rejectedLogProbs: Float64Array.of(rejected!.sum),
      chosenReferenceLogProbs: referenceSums.slice(0, 1),
      rejectedReferenceLogProbs: referenceSums.slice(1),
      chosenLengths: Int32Array.of(responses[0]!.length),
      rejectedLengths: Int32Array.of(responses[1]!.length),
    })
    close(t, lossSum, expected.loss, { absolute: 1e-4, relative: 1e-5 }, loss)
  }
})

test('tokens without a label after the response change nothing, whatever the loss', async (t) => {
  await using model = await tinyModel()
  for (const loss of PAIR_LOSS_NAMES) {
    const term: TermOf<'dpo'> = { kind: 'dpo', loss, pairs, referenceSums }
    const one = await gradientsOf(model, ' and', term)
    const other = await gradientsOf(model, '!!!!', term)
    close(t, other.loss, one.loss, { absolute: 1e-7 }, loss)
    close(t, other.gradients, one.gradients, { absolute: 1e-7 }, loss)
    const none = await gradientsOf(model, '', term)
    close(t, none.loss, one.loss, { absolute: 1e-5 }, loss)
    close(t, none.gradients, one.gradients, { absolute: 1e-4 }, loss)
  }
})
