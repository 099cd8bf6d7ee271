/**
 * Fine-tunes a model with LoRA, then merges the adapter into its weights.
 *
 *     node dist/examples/lora.js MODEL_DIR DATA.jsonl OUTPUT_DIR [EPOCHS]
 */
import { join } from 'node:path'
import { CausalLM, PosttrainError, sft } from '../lib/index.js'

const [directory = './model', data = 'train.jsonl', output = 'runs/lora', epochs = '3'] =
  process.argv.slice(2)

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  const run = sft({
    model,
    data,
    lora: { rank: 16, alpha: 32 },
    epochs: Number(epochs),
    batchSize: 4,
    output,
  })
  for await (const event of run) {
    switch (event.type) {
      case 'start':
        console.log(`${event.trainableParameters} of ${event.parameters} parameters are trained`)
        break
      case 'step':
        if (event.step % 10 === 0) console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}`)
        break
    }
  }
  const { model: adapter } = await run.finish()

  // Another program could start here, with the base and the adapter's folder.
  await using merged = await CausalLM.load(directory)
  await merged.loadAdapter('trained', adapter!)
  await merged.mergeAdapter()
  const folder = join(output, 'merged')
  await merged.save(folder, { overwrite: true })
  console.log(`adapter in ${adapter}, merged model in ${folder}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
