import test from 'ava'
import { lossCases, lossNamed, matches, optionsOf } from '../helpers/loss-cases.js'

// Values and gradients of TRL and torch in float64; scripts/dev/fixtures/losses.py says which is whose.
const files = ['ppo', 'kl', 'advantages', 'dpo', 'kto', 'reward', 'grpo']

for (const file of files) {
  for (const { name, call, input, expected } of lossCases(`${file}.json`)) {
    test(`${file}: ${name}`, async (t) => {
      const loss = lossNamed(call)
      const wide = await loss({ ...optionsOf(input, Float64Array), gradient: true })
      matches(t, wide, expected, { absolute: 1e-9, relative: 1e-9 }, Float64Array)
      const single = await loss({ ...optionsOf(input, Float32Array), gradient: true })
      matches(t, single, expected, { absolute: 1e-5, relative: 1e-5 }, Float32Array)
      const { gradient, ...values } = wide
      t.deepEqual(await loss(optionsOf(input, Float64Array)), values, 'without a gradient')
    })
  }
}
