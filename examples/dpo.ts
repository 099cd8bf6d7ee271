/**
 * Trains a model on preference pairs with DPO, without a reward model.
 *
 *     node dist/examples/dpo.js MODEL_DIR RANKINGS.jsonl OUTPUT_DIR [EPOCHS]
 */
import { CausalLM, dpo, PosttrainError } from '../lib/index.js'

const [directory = './model', data = 'rankings.jsonl', output = 'runs/dpo', epochs = '1'] =
  process.argv.slice(2)

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  const run = dpo({
    model,
    data,
    validation: { fraction: 0.1 },
    // The reference is the model without its adapter.
    lora: { rank: 16 },
    beta: 0.1,
    // Keeps chosen responses likely, not only likelier than rejected ones.
    sftCoef: 0.1,
    epochs: Number(epochs),
    learningRate: 1e-3,
    output,
  })
  for await (const event of run) {
    switch (event.type) {
      case 'step':
        if (event.step % 10 === 0 || event.step === 1)
          console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}, margin ${event.margin.toFixed(2)}`)
        break
      case 'evaluation':
        console.log(`validation loss ${event.loss.toFixed(4)}, margin ${event.margin.toFixed(2)}`)
        break
      case 'warning':
        console.log(event.message)
        break
    }
  }
  console.log(`adapter in ${(await run.finish()).model}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
