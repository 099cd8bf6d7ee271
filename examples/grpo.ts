/**
 * GRPO with a reward function: responses that start with a vowel. No reward model, no critic.
 *
 *     node dist/examples/grpo.js MODEL_DIR PROMPTS.jsonl OUTPUT_DIR [ITERATIONS]
 */
import { CausalLM, grpo, PosttrainError, type RewardSample } from '../lib/index.js'

const [directory = './model', data = 'prompts.jsonl', output = 'runs/grpo', n] = process.argv.slice(2)

const startsWithVowel = (samples: readonly RewardSample[]) =>
  samples.map(({ text }) => Number(/^\s*[aeiou]/i.test(text)))

async function main(): Promise<void> {
  await using model = await CausalLM.load(directory)
  const run = grpo({
    model,
    reward: startsWithVowel,
    data,
    lora: { rank: 16 },
    iterations: Number(n ?? 20),
    batchSize: 2,
    groupSize: 8,
    maxNewTokens: 8,
    temperature: 0.8,
    learningRate: 5e-4,
    klCoef: 0.02,
    output,
  })
  for await (const event of run) {
    switch (event.type) {
      case 'step':
        console.log(`iteration ${event.step}: score ${event.score.toFixed(3)}, KL ${event.kl?.toFixed(3)}`)
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
