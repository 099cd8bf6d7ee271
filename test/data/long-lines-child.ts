// Reads and encodes the data file given as an argument, and prints the most memory that the process had, in bytes.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defaultDatasetOptions } from '../../lib/data/dataset.js'
import { loadDataset, Template, Tokenizer } from '../../lib/data/index.js'
import { fixture } from '../helpers/fixtures.js'

const tokenizer = Tokenizer.fromFiles({
  tokenizerJson: readFileSync(join(fixture('tokenizers'), 'gpt2.json'), 'utf8'),
  tokenizerConfig: '{}',
})
const chat = Template.fromSource('{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}')
const options = { ...defaultDatasetOptions(tokenizer), template: chat, maxLength: 64, needsStop: false }
const { train } = await loadDataset(process.argv[2]!, options)
const peak = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
console.log(JSON.stringify({ peak, tokens: train.store.tokens }))
process.exit(0)
