import test from 'ava'
import { learningRateAt } from '../../lib/optim/schedule.js'
import { close } from '../helpers/close.js'
import { fixture, readJson } from '../helpers/fixtures.js'

const { schedules } = readJson<{ schedules: Record<'constant' | 'linear' | 'cosine', number[]> }>(
  fixture('functions.json'),
)

for (const [name, floor] of [
  ['constant', 0],
  ['linear', 0],
  ['cosine', 0.05],
] as const) {
  test(`${name}: the rates are those of transformers`, (t) => {
    const options = {
      learningRate: 1,
      schedule: name,
      totalSteps: 50,
      warmupSteps: 7,
      minLearningRateRatio: floor,
    }
    const rates = schedules[name].map((_, step) => learningRateAt(step, options))
    close(t, rates, schedules[name], { absolute: 1e-12 }, name)
  })
}

test('warmupStableDecay rises, stays and falls to the floor', (t) => {
  const options = {
    learningRate: 2,
    schedule: 'warmupStableDecay',
    totalSteps: 100,
    warmupRatio: 0.1,
    decayRatio: 0.2,
    minLearningRateRatio: 0.1,
  } as const
  close(
    t,
    [0, 5, 10, 50, 80, 90, 100].map((step) => learningRateAt(step, options)),
    [0, 1, 2, 2, 2, 1.1, 0.2],
    { absolute: 1e-12 },
  )
})
