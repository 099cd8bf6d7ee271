// Prints what a model computes, as JSON: run once for each POSTTRAIN_MATMUL by matmul.test.ts.
import { CausalLM, generate } from '../../lib/index.js'
import { tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

// Sides of 64 and more, with a bias, an odd vocabulary, and a number of tokens that fills blocks of every size.
const config = { ...tinyConfig, hidden_size: 96, intermediate_size: 160, head_dim: 32, vocab_size: 263 }
const lengths = [301, 38, 6]
const offsets = Int32Array.of(0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b)))
const inputIds = Int32Array.from({ length: offsets.at(-1)! }, (_, i) => (i * 89 + (i % 7)) % 256)
const batch = { inputIds, offsets, labels: inputIds.map((id, i) => (i % 3 === 0 ? -100 : id)) }
const advantages = Float64Array.from(inputIds, (id) => (id % 5) - 2)

const results: Record<string, number[]> = {}
for (const adapted of [false, true]) {
  await using model = await CausalLM.create(config, { seed: 3, tokenizer: byteTokenizer() })
  if (adapted) {
    await model.addAdapter('low', { rank: 16, seed: 1 })
    for (const { name, shape, trainable } of await model.parameters()) {
      const size = shape.reduce((a, b) => a * b, 1)
      if (trainable)
        await model.setParameter(
          name,
          Float32Array.from({ length: size }, (_, i) => Math.sin(i) / 10),
        )
    }
  }
  const at = (name: string) => `${adapted ? 'adapted' : 'plain'} ${name}`
  results[at('logits')] = [...(await model.logits(batch))]
  const oldLogProbs = new Float64Array(inputIds.length).fill(-5)
  const term = { kind: 'ppoPolicy', oldLogProbs, advantages, entropyCoefficient: 0.1 } as const
  results[at('losses')] = [
    (await model.backward(batch, { kind: 'crossEntropy' })).loss,
    (await model.backward(batch, term)).loss,
  ]
  for (const { name, trainable } of await model.parameters())
    if (trainable) results[at(name)] = [...(await model.getGradient(name)).values]
  const prompts = [inputIds.slice(0, 20), inputIds.slice(40, 49), inputIds.slice(100, 170)]
  const answers = await generate(model, prompts, { maxNewTokens: 12, stopIds: [] })
  results[at('greedy')] = answers.flatMap(({ tokenIds }) => [...tokenIds])
}
process.stdout.write(JSON.stringify(results))
