import { IGNORE_INDEX } from '../../lib/addon/training.js'
import { Template } from '../../lib/data/index.js'
import { byteTokenizer } from './tokenizers.js'

export const tokenizer = byteTokenizer()

/** Writes a line end behind each terminator, which no row may have at its end. */
export const chat = Template.fromSource(
  '{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}',
)

export const options = {
  strings: 'raw' as const,
  rendered: false,
  tokenizer,
  template: chat,
  maxLength: 512,
  onBadRow: 'error' as const,
  seed: 0,
}

export const user = (content: string) => ({ role: 'user', content })
export const assistant = (content: string) => ({ role: 'assistant', content })

export const textOf = (ids: Int32Array) => tokenizer.decode(ids, { skipSpecialTokens: false })

interface Documents {
  inputIds: Int32Array
  offsets: Int32Array
  labels?: Int32Array
}

/** Each document of a batch, its labels between « and ». */
export function marked({ inputIds, offsets, labels }: Documents): string[] {
  return Array.from({ length: offsets.length - 1 }, (_, d) => {
    let text = ''
    let inside = false
    for (let t = offsets[d]!; t < offsets[d + 1]!; t++) {
      const label = labels![t]!
      if (label !== IGNORE_INDEX && label !== inputIds[t]) throw new Error(`label ${label} at ${t}`)
      if ((label !== IGNORE_INDEX) !== inside) text += inside ? '»' : '«'
      inside = label !== IGNORE_INDEX
      text += textOf(inputIds.subarray(t, t + 1))
    }
    return inside ? `${text}»` : text
  })
}

export async function drain<Batch>(batches: AsyncIterable<Batch>): Promise<Batch[]> {
  const all: Batch[] = []
  for await (const batch of batches) all.push(batch)
  return all
}
