/**
 * The three stages of RLHF on one base in memory: SFT, a reward model from rankings, PPO.
 *
 *     node dist/examples/alignment.js MODEL_DIR ROWS.jsonl RANKINGS.jsonl OUTPUT_DIR [ITERATIONS] [LEARNING_RATE]
 */
import { CausalLM, PosttrainError, ppo, RewardModel, reward, sft } from '../lib/index.js'

const [directory = './model', rows = 'train.jsonl', rankings = 'rankings.jsonl', output = 'runs', n, rate] =
  process.argv.slice(2)

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  const learningRate = Number(rate ?? 1e-4)

  // 1. SFT: the model learns to respond.
  await sft({ model, data: rows, epochs: 2, learningRate, output: `${output}/sft` }).finish()

  // 2. Reward model: an adapter learns which of two responses people prefer.
  await using judge = await RewardModel.fromCausalLM(model)
  const rewardRun = reward({
    model: judge,
    data: rankings,
    validation: { fraction: 0.1 },
    lora: { rank: 16 },
    learningRate,
    output: `${output}/reward`,
  })
  for await (const event of rewardRun)
    if (event.type === 'evaluation')
      console.log(`accuracy on held-out pairs: ${(100 * event.accuracy).toFixed(0)} %`)

  // 3. PPO: another adapter learns to raise the score; the model of stage 1 is the reference.
  const run = ppo({
    model,
    reward: judge,
    data: rows,
    lora: { rank: 16 },
    iterations: Number(n ?? 50),
    batchSize: 16,
    maxNewTokens: 32,
    learningRate,
    output: `${output}/ppo`,
  })
  for await (const event of run) {
    if (event.type === 'step')
      console.log(`iteration ${event.step}: score ${event.score.toFixed(3)}, KL ${event.kl?.toFixed(3)}`)
    if (event.type === 'warning') console.log(`${event.code}: ${event.message}`)
  }
  console.log(`adapter for ${output}/sft/model in ${(await run.finish()).model}`)
}

main().catch((error: unknown) => {
  console.error(error instanceof PosttrainError ? `${error.code}: ${error.message}` : error)
  process.exitCode = 1
})
