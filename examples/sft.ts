/**
 * Fine-tunes a model on a file of instructions and asks it a question before and after.
 *
 *     node dist/examples/sft.js MODEL_DIR DATA.jsonl OUTPUT_DIR
 */
import { CausalLM, chat, PosttrainError, sft } from '../lib/index.js'

const [directory = './model', data = 'train.jsonl', output = 'runs/sft'] = process.argv.slice(2)
const question = '1加1等于几?'

async function respond(model: CausalLM): Promise<string> {
  let text = ''
  for await (const piece of chat(model, [{ role: 'user', content: question }], { maxNewTokens: 32 }))
    text += piece.text
  return text
}

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  if (model.chatTemplate !== null) console.log(`before: ${await respond(model)}`)

  const run = sft({
    model,
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
          `${event.report.rows} rows, ${event.report.trainTokens} trained tokens, ${event.totalSteps} steps`,
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
  console.log(`after: ${await respond(model)}`)
  console.log(`best validation loss ${bestLoss?.toFixed(4)}, model in ${saved}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
