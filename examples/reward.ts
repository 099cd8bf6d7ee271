/**
 * Trains a reward model on rankings and scores two responses with it.
 *
 *     node dist/examples/reward.js MODEL_DIR RANKINGS.jsonl OUTPUT_DIR [EPOCHS]
 *
 * A row is {"prompt", "chosen", "rejected"}, or {"prompt", "responses"} with the best first.
 */
import {
  CausalLM,
  generate,
  PosttrainError,
  plainTemplate,
  RewardModel,
  reward,
  Template,
} from '../lib/index.js'

const [directory = './model', data = 'rankings.jsonl', output = 'runs/reward', epochs = '1'] =
  process.argv.slice(2)
const question = 'Say hello.'

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  // With an adapter the base does not change, so ppo can share it with the actor.
  await using scorer = await RewardModel.fromCausalLM(model)
  const run = reward({
    model: scorer,
    data,
    validation: { fraction: 0.1 },
    lora: { rank: 16 },
    epochs: Number(epochs),
    learningRate: 1e-3,
    center: 0.01,
    output,
  })
  for await (const event of run) {
    switch (event.type) {
      case 'step':
        if (event.step % 10 === 0)
          console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}, margin ${event.margin.toFixed(2)}`)
        break
      case 'evaluation':
        console.log(`accuracy on held-out pairs: ${(100 * event.accuracy).toFixed(0)} %`)
        break
    }
  }
  const { model: saved } = await run.finish()

  // Two responses of the model itself, scored as in ppo.
  const { chatTemplate, tokenizer } = model
  const template = chatTemplate === null ? plainTemplate : Template.fromSource(chatTemplate)
  const promptIds = template.promptIds({ instruction: question }, tokenizer)
  const options = { maxNewTokens: 32, temperature: 1, seed: 0 }
  const responses = await generate(model, [promptIds, promptIds], options)
  const scores = await scorer.scores(
    responses.map(({ tokenIds }) => ({ promptIds, completionIds: tokenIds })),
  )
  for (const [i, { text }] of responses.entries()) console.log(`score ${scores[i]!.toFixed(2)}: ${text}`)
  console.log(`reward model in ${saved}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
