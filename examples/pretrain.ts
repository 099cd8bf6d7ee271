/**
 * Pretrains a small new model on plain text, from random weights, and lets it complete a sentence.
 *
 *     node dist/examples/pretrain.js TOKENIZER_DIR CORPUS.jsonl OUTPUT_DIR
 */
import { CausalLM, generate, PosttrainError, pretrain, Tokenizer } from '../lib/index.js'

const [folder = './tokenizer', data = 'corpus.jsonl', output = 'runs/pretrain'] = process.argv.slice(2)

async function main(): Promise<void> {
  const tokenizer = await Tokenizer.load(folder)
  const config = {
    model_type: 'llama',
    vocab_size: tokenizer.vocabSize,
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
  }
  await using model = await CausalLM.create(config, { seed: 0, tokenizer })

  const run = pretrain({ model, data, epochs: 2, batchSize: 8, learningRate: 2e-3, warmupSteps: 5, output })
  for await (const event of run) {
    if (event.type === 'step') console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}`)
  }
  const [completion] = await generate(model, ['The'], { maxNewTokens: 20 })
  console.log(`The${completion?.text}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
