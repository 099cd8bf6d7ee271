import { IGNORE_INDEX } from '../../addon/training.js'
import type { Tokenizer } from '../text/tokenizer.js'

/** Characters of an example in a report; of a longer one both ends are kept. */
const LONGEST = 1000

/** A row as one text, its special tokens spelled out; trained tokens stand between ⟦ and ⟧. */
export function exampleText(
  { inputIds, labels }: { inputIds: Int32Array; labels?: Int32Array },
  tokenizer: Tokenizer,
): string {
  let text = ''
  let from = 0
  const isTrained = (t: number) => labels !== undefined && labels[t] !== IGNORE_INDEX
  for (let t = 1; t <= inputIds.length; t++) {
    if (t < inputIds.length && isTrained(t) === isTrained(from)) continue
    const piece = tokenizer.decode(inputIds.subarray(from, t), { skipSpecialTokens: false })
    text += isTrained(from) ? `⟦${piece}⟧` : piece
    from = t
  }
  const characters = [...text]
  if (characters.length <= LONGEST) return text
  const half = LONGEST / 2
  return `${characters.slice(0, half).join('')} … ${characters.slice(-half).join('')}`
}
