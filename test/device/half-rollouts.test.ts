// Reinforcement learning in bfloat16 on the CPU through the stand-ins of CUDA's operations: what is trained is what was sampled.
import test from 'ava'
import { grpo, ppo } from '../../lib/index.js'
import { useStandInDevice } from '../helpers/stand-in-device.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

await useStandInDevice()

const options = {
  data: instructionRows(8),
  template: 'plain',
  reward: (samples: readonly { text: string }[]) => samples.map(({ text }) => text.length % 3),
  temperature: 0.7,
  maxNewTokens: 12,
  iterations: 2,
  batchSize: 4,
  learningRate: 1e-4,
  seed: 3,
  lora: { rank: 4 },
} as const

for (const recipe of ['grpo', 'ppo'] as const)
  test.serial(
    `${recipe}: log-probabilities of sampled tokens are those of the training forward`,
    async (t) => {
      await using model = await tinyModel()
      t.true((await model.parameters()).every(({ dtype }) => dtype === 'bfloat16'))
      const run = recipe === 'grpo' ? grpo({ ...options, groupSize: 4, model }) : ppo({ ...options, model })
      const gaps: number[] = []
      for await (const event of run) if (event.type === 'step') gaps.push(event.logProbGap)
      t.log(gaps.join(' '))
      t.is(gaps.length, 2)
      t.true(Math.max(...gaps) < 1e-3)
    },
  )
