// Stage 3 of the demo, for several seeds: node scripts/dev/checks/learning.mjs [--model runs/demo/sft/model] [--seeds 1,2,3,4,5]
// One line per seed and the worst of each number; fails if a seed misses a threshold. `npm run demo` trains the model.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CausalLM } from '../../../dist/lib/index.js'
import { ALIGNMENT_GATE, alignWithFeedback } from '../../demo/alignment.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'runs/demo/sft/model' },
    seeds: { type: 'string', default: '1,2,3,4,5' },
  },
})
const path = fileURLToPath(new URL('../../demo/held-out.jsonl', import.meta.url))
const heldOut = readFileSync(path, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line))
const silent = { json: false, title: () => undefined, say: () => undefined, event: () => undefined }

const percent = (value) => `${(100 * value).toFixed(1)} %`
const results = []
for (const seed of values.seeds.split(',').map(Number)) {
  const output = mkdtempSync(join(tmpdir(), 'posttrain-learning-'))
  const model = await CausalLM.load(values.model, { device: 'cpu', threads: 1 })
  try {
    const result = await alignWithFeedback({ model, heldOut, output, quick: false, printer: silent, seed })
    const { before, after, kl, rewardAccuracy, cpuSeconds, passed } = result
    results.push(result)
    console.log(
      `seed ${seed}: polite ${percent(before.polite)} -> ${percent(after.polite)}, right ${percent(before.right)} -> ${percent(after.right)}, score ${before.score.toFixed(2)} -> ${after.score.toFixed(2)}, KL ${kl.toFixed(2)}, reward model ${percent(rewardAccuracy)}, ${cpuSeconds.toFixed(0)} CPU s${passed ? '' : ', MISSED'}`,
    )
  } finally {
    await model.dispose()
    rmSync(output, { recursive: true })
  }
}
const worst = (of, choose) => choose(...results.map(of))
const { politeBefore, politeAfter, lost, kl } = ALIGNMENT_GATE
console.log(
  `worst: polite before ${percent(worst(({ before }) => before.polite, Math.max))} (below ${percent(politeBefore)}), after ${percent(worst(({ after }) => after.polite, Math.min))} (at least ${percent(politeAfter)}), right ${(100 * worst(({ before, after }) => after.right - before.right, Math.min)).toFixed(1)} points (at least -${100 * lost}), KL ${worst((result) => result.kl, Math.max).toFixed(2)} (at most ${kl})`,
)
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1
