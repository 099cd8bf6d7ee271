import { PosttrainError } from '../errors.js'
import { CausalLM } from '../models/causal-lm.js'
import type { RewardModel } from '../models/reward-model.js'

/** Text of some kinds, on which models are compared. */
const TEXTS = [
  'The capital of France is Paris. It lies on the Seine and has about two million inhabitants; many visitors come to see its towers and museums.',
  'function add(a, b) {\n  return a + b\n}\nconsole.log(add(2, 40)) // 42\n{"name": "Ada", "born": 1815}',
  'Q: What is 17 + 25?\nA: 17 + 25 = 42.\nLa vie est belle. Das Wetter ist heute schön. 今日はいい天気です。',
]

/** What a model computes of the texts: rows of logits, or the score of each. */
export interface Outputs {
  values: ArrayLike<number>
  columns: number
}

export async function outputsOf(model: CausalLM | RewardModel): Promise<Outputs> {
  const rows = TEXTS.map((text) => Int32Array.from(model.tokenizer.encode(text)))
  if (!(model instanceof CausalLM)) return { values: await model.scores(rows), columns: 1 }
  const offsets = [0]
  for (const { length } of rows) offsets.push(offsets.at(-1)! + length)
  const inputIds = Int32Array.from(rows.flatMap((row) => [...row]))
  const values = await model.logits({ inputIds, offsets: Int32Array.from(offsets) })
  return { values, columns: values.length / inputIds.length }
}

/** Place of the largest value of a row. */
function largestAt({ values, columns }: Outputs, row: number): number {
  let best = row * columns
  for (let i = best + 1; i < (row + 1) * columns; i++) if (values[i]! > values[best]!) best = i
  return best
}

function compare(one: Outputs, other: Outputs): { difference: number; largest: number; line: string } {
  const { columns } = one
  const rows = one.values.length / columns
  let [difference, sum, largest] = [0, 0, 0]
  for (let i = 0; i < one.values.length; i++) {
    const [a, b] = [one.values[i]!, other.values[i]!]
    // Math.max keeps what is not a number.
    difference = Math.max(difference, Math.abs(a - b))
    largest = Math.max(largest, Math.abs(a), Math.abs(b))
    sum += Math.abs(a - b)
  }
  let same = 0
  for (let row = 0; row < rows; row++) if (largestAt(one, row) === largestAt(other, row)) same++
  const numbers = `at most ${short(difference)}, on average ${short(sum / one.values.length)}, of outputs up to ${short(largest)}`
  const tokens = columns === 1 ? '' : `; the most likely token is the same at ${same} of ${rows} places`
  return { difference, largest, line: `${numbers}${tokens}` }
}

/** Part of the largest output that rounding of the saved weights may change. */
const ROUNDING = { float32: 0.001, bfloat16: 0.05, float16: 0.01 }

/** Outputs of a merge: of the saved model, of the adapter upon its base, and of the base alone. */
interface Merge {
  merged: Outputs
  adapted: Outputs
  base: Outputs
}

/**
 * One line on how far the merged model is from the adapter upon its base. Throws ERR_INVALID_FILE where they are further
 * apart than rounding and half of what the adapter changes.
 */
export function mergeReport({ merged, adapted, base }: Merge, dtype: keyof typeof ROUNDING): string {
  const { difference, largest, line } = compare(merged, adapted)
  const effect = compare(adapted, base).difference
  const report = `Difference to the adapter on its base, which changes outputs by up to ${short(effect)}: ${line}`
  if (difference <= Math.max(ROUNDING[dtype] * largest, 0.5 * effect)) return report
  throw new PosttrainError('ERR_INVALID_FILE', `the merged model is not that of the adapter. ${report}`)
}

/** One line on how far it is from the adapter upon the base in 4 bits, on which it was trained. */
export const quantizedReport = (merged: Outputs, trained: Outputs): string =>
  `Difference to the adapter on the base in 4 bits: ${compare(merged, trained).line}`

const short = (value: number) => Number(value.toPrecision(3)).toString()
