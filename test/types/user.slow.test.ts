import test from 'ava'
import { UserProgram } from '../helpers/user-program.js'

const program = `import { CausalLM, dpo, grpo, ppo, rloo, type PpoStepEvent, type Reward, type RewardSample } from 'posttrain'
import { dpoLoss } from 'posttrain/losses'
declare const model: CausalLM
const rows = [{ prompt: 'Capital of France?', answer: 'Paris' }]
async function* stream() {
  yield { prompt: 'Capital of Peru?', answer: 'Lima', level: 3 }
}
// Rows of a list, of an iterable, of a list in a list of sources.
grpo({ model, data: rows, reward: (samples) => samples.map(({ row, text }) => Number(text.includes(row.answer))) })
rloo({ model, data: stream(), reward: (samples) => samples.map(({ row }) => row.level) })
ppo({ model, data: [{ data: rows, weight: 1 }], reward: (samples) => samples.map(({ row }) => row.answer.length) })
grpo({ model, data: rows, reward: [{ reward: (samples) => samples.map(({ row }) => row.answer.length), weight: 2 }] })
// Columns that a file has nobody knows; a program may say them.
grpo({ model, data: 'rows.jsonl', reward: (samples) => samples.map(({ row }) => String(row.answer).length) })
grpo<{ answer: string }>({ model, data: 'rows.jsonl', reward: (samples) => samples.map(({ row }) => row.answer.length) })
grpo<{ answer: string }>({ model, data: [{ prompt: 'a', answer: 'b' }], reward: (samples) => samples.map(({ row }) => row.answer.length) })
grpo({ model, data: 'rows.jsonl', reward: (samples: readonly RewardSample<{ answer: string }>[]) => samples.map(({ row }) => row.answer.length) })
// @ts-expect-error: such rows have no such column
grpo({ model, data: rows, reward: (samples) => samples.map(({ row }) => row.level) })
// @ts-expect-error: a column of a file is unknown
grpo({ model, data: 'rows.jsonl', reward: (samples) => samples.map(({ row }) => row.answer.length) })
const byLength: Reward<{ answer: string }> = (samples) => samples.map(({ row }) => row.answer.length)
grpo({ model, data: rows, reward: byLength })
export function onStep(event: PpoStepEvent): number {
  return event.valueLoss
}
export async function main() {
  for await (const event of dpo({ model, data: 'pairs.jsonl' })) if (event.type === 'step') console.log(event.accuracy)
  for await (const event of ppo({ model, data: 'rows.jsonl', reward: byLength as never })) if (event.type === 'step') onStep(event)
}
void dpoLoss
`

for (const exactOptionalPropertyTypes of [false, true]) {
  test(`a program of a user compiles, its libraries checked too, ${exactOptionalPropertyTypes ? 'with' : 'without'} exactOptionalPropertyTypes; rows are inferred from data`, (t) => {
    const user = new UserProgram(program, { skipLibCheck: false, exactOptionalPropertyTypes })
    t.deepEqual(user.errors(), [])
  })
}
