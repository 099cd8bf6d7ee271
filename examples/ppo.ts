/**
 * PPO with its four models on one base: the actor and the critic train LoRA adapters, the reward model is an adapter
 * (examples/reward.ts trains one), the reference is the base itself.
 *
 *     node dist/examples/ppo.js MODEL_DIR REWARD_DIR PROMPTS.jsonl OUTPUT_DIR [ITERATIONS]
 */
import { CausalLM, PosttrainError, ppo, RewardModel } from '../lib/index.js'

const [directory = './model', judge = 'runs/reward/adapter', data = 'prompts.jsonl', output = 'runs/ppo', n] =
  process.argv.slice(2)

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  await using reward = await RewardModel.load(judge, { onto: { model, directory } })
  const run = ppo({
    model,
    reward,
    data,
    lora: { rank: 16 },
    iterations: Number(n ?? 30),
    batchSize: 16,
    epochs: 2,
    miniBatches: 2,
    maxNewTokens: 32,
    learningRate: 1e-4,
    klCoef: 0.05,
    samples: { count: 1, everySteps: 10 },
    output,
  })
  for await (const event of run) {
    switch (event.type) {
      case 'step':
        console.log(
          `iteration ${event.step}: score ${event.score.toFixed(3)}, KL ${event.kl?.toFixed(3)}, length ${event.responseLength.toFixed(1)}`,
        )
        break
      case 'sample':
        console.log(`${event.prompt} -> ${event.text} (${event.score?.toFixed(2)})`)
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
