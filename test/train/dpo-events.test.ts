import test from 'ava'
import { type DpoRun, dpo } from '../../lib/train/dpo.js'
import type { DpoOptions } from '../../lib/train/options/options.generated.js'
import { rankings } from '../helpers/preference-runs.js'
import { tinyModel } from '../helpers/tiny-training.js'

const options = { template: 'plain', maxLength: 64, batchSize: 4, maxSteps: 1 } as const
const pairs = { ...options, data: rankings(4), validation: rankings(2, 50) }
const single = rankings(4).map(({ prompt, chosen }, i) => ({
  prompt,
  completion: chosen,
  label: i % 2 === 0,
}))
const unpaired = { ...options, data: single, validation: single }

test('events of pairs have the metrics of pairs: with the default loss, and with a literal', async (t) => {
  await using model = await tinyModel()
  for (const run of [dpo({ ...pairs, model }), dpo({ ...pairs, model, loss: 'ipo' })]) {
    const seen: string[] = []
    for await (const event of run) {
      seen.push(event.type)
      if (event.type !== 'step' && event.type !== 'evaluation') continue
      const { accuracy, chosenReward, rejectedReward, chosenLength } = event
      t.true([accuracy, chosenReward, rejectedReward, chosenLength].every(Number.isFinite))
      // @ts-expect-error kto alone has it
      t.is(event.desirableReward, undefined)
    }
    t.true(seen.includes('step') && seen.includes('evaluation'))
  }
})

test('events of kto have its metrics', async (t) => {
  await using model = await tinyModel()
  const seen: string[] = []
  for await (const event of dpo({ ...unpaired, model, loss: 'kto' })) {
    seen.push(event.type)
    if (event.type !== 'step' && event.type !== 'evaluation') continue
    t.true([event.desirableReward, event.undesirableReward, event.kl].every(Number.isFinite))
    // @ts-expect-error pairs alone have it
    t.is(event.accuracy, undefined)
  }
  t.true(seen.includes('step') && seen.includes('evaluation'))
})

test('events of a loss that is known only at run time are of either kind', async (t) => {
  await using model = await tinyModel()
  const given: DpoOptions = { ...unpaired, model, loss: 'kto' }
  const run: DpoRun = dpo(given)
  for await (const event of run) {
    if (event.type !== 'step') continue
    // @ts-expect-error only one of the two has it
    t.is(event.accuracy, undefined)
    t.true('desirableReward' in event && Number.isFinite(event.desirableReward))
  }
  // @ts-expect-error no such loss
  t.throws(() => dpo({ ...pairs, model, loss: 'dpo' }), { message: /loss/ })
})
