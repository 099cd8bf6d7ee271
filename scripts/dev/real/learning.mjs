// GRPO of the demo on a real model, for several seeds: node scripts/dev/real/learning.mjs --model DIR [--seeds 1,2,3]
//   [--threads N]
// One line per seed and the minimum; fails if that misses the demo's threshold.
import { parseArgs } from 'node:util'
import { CausalLM } from '../../../dist/lib/index.js'
import { learnVowels, VOWEL_GATE } from '../../demo/real.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    seeds: { type: 'string', default: '1,2,3' },
    threads: { type: 'string' },
  },
})
if (!values.model) {
  process.stderr.write(
    'usage: node scripts/dev/real/learning.mjs --model DIR [--seeds 1,2,3] [--threads N]\n',
  )
  process.exit(2)
}
const silent = { json: false, title: () => undefined, say: () => undefined, event: () => undefined }

let least = Number.POSITIVE_INFINITY
for (const seed of values.seeds.split(',').map(Number)) {
  const model = await CausalLM.load(values.model, {
    device: 'cpu',
    ...(values.threads && { threads: Number(values.threads) }),
  })
  try {
    const result = await learnVowels({ model, seed, quick: false, printer: silent })
    least = Math.min(least, result.last)
    console.log(
      `seed ${seed}: ${result.first.toFixed(3)} in the first five iterations, ${result.last.toFixed(3)} in the last five (${result.scores.map((score) => score.toFixed(2)).join(' ')}), ${result.cpuSeconds.toFixed(0)} CPU s`,
    )
  } finally {
    await model.dispose()
  }
}
console.log(`minimum of the last five: ${least.toFixed(3)} (at least ${VOWEL_GATE})`)
process.exitCode = least >= VOWEL_GATE ? 0 : 1
