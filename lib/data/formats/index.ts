import { NOT_EXPANDED } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import type { Format } from './format.js'
import { json } from './json.js'
import { jsonl } from './jsonl.js'
import { text } from './text.js'

/** Every kind of data file, in the order of the help. */
export const FORMATS: readonly Format[] = [jsonl, json, text]

const mainEndings = FORMATS.map(({ endings }) => endings[0])

/** `.jsonl, .json or .txt` */
export const ENDINGS_TEXT = `${mainEndings.slice(0, -1).join(', ')} or ${mainEndings.at(-1)}`

/** Known kinds of files that are not read. */
const OTHERS: readonly { endings: readonly string[]; advice: string }[] = [
  { endings: ['.gz', '.zst', '.xz', '.bz2', '.zip', '.tar'], advice: 'decompress it first' },
  {
    endings: ['.parquet', '.arrow', '.csv', '.tsv', '.xlsx', '.yaml', '.yml', '.xml'],
    advice: 'convert it to .jsonl',
  },
  { endings: ['.md', '.text', '.markdown'], advice: 'name plain text .txt' },
  { endings: ['.json5', '.jsonc'], advice: 'write plain JSON' },
]

/** Sources that are no files of this machine. */
const ELSEWHERE: readonly [form: RegExp, advice: string][] = [
  [
    /^https?:/i,
    'is not read: download the file, or name one on the Hugging Face Hub as hf://datasets/org/name/file.jsonl',
  ],
  [NOT_EXPANDED, 'is no path: write out the folder in place of ~ or file:'],
  [/^(?:-|\/dev\/(?:stdin|fd\/\d+))$/, 'is not read: data are read twice, so write the rows to a file'],
]

/** Finds the format of a file by the ending of its name; ERR_DATA for an unknown one. */
export function formatOf(path: string): Format {
  const elsewhere = ELSEWHERE.find(([form]) => form.test(path))
  if (elsewhere !== undefined) throw new PosttrainError('ERR_DATA', `${path} ${elsewhere[1]}`)
  const name = path.toLowerCase()
  const format = FORMATS.find(({ endings }) => endings.some((ending) => name.endsWith(ending)))
  if (format !== undefined) return format
  const other = OTHERS.find(({ endings }) => endings.some((ending) => name.endsWith(ending)))
  throw new PosttrainError(
    'ERR_DATA',
    `${path}: data files must end in ${ENDINGS_TEXT}${other === undefined ? '' : `: ${other.advice}`}`,
  )
}
