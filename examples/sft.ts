/**
 * Fine-tunes a model on a file of instructions and asks it a question before and after.
 *
 *     node dist/examples/sft.js MODEL_DIR DATA.jsonl OUTPUT_DIR
 */
import { CausalLM, chat, PosttrainError, sft } from '../lib/index.js'

const [model = './model', data = 'train.jsonl', output = 'runs/sft'] = process.argv.slice(2)
const question = '1加1等于几?'

async function answer(of: CausalLM): Promise<string> {
  let text = ''
  for await (const piece of chat(of, [{ role: 'user', content: question }], { maxNewTokens: 32 }))
    text += piece.text
  return text
}

async function main(): Promise<void> {
  await using loaded = await CausalLM.load(model)
  if (loaded.chatTemplate !== null) console.log(`before: ${await answer(loaded)}`)

  const run = sft({
    model: loaded,
    data,
    validation: { fraction: 0.1 },
    epochs: 2,
    batchSize: 4,
    learningRate: 1e-3,
    warmupRatio: 0.05,
    output,
  })
  for await (const event of run) {
    switch (event.type) {
      case 'start':
        console.log(
          `${event.report.rows} rows, ${event.report.trainTokens} tokens to learn, ${event.totalSteps} steps`,
        )
        break
      case 'step':
        if (event.step % 10 === 0) console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}`)
        break
      case 'evaluation':
        console.log(`validation loss ${event.loss.toFixed(4)}, perplexity ${event.perplexity.toFixed(2)}`)
        break
    }
  }
  const { model: saved, bestLoss } = await run.finish()
  console.log(`after: ${await answer(loaded)}`)
  console.log(`best validation loss ${bestLoss?.toFixed(4)}, model in ${saved}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
