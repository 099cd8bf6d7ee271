import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'

/** Tells every file that is read, then what was required: at the import, and at the first options. */
const program = `
import { createRequire, register } from 'node:module'
const hooks = "import { writeSync } from 'node:fs'; export const load = (url, context, next) => { writeSync(1, url + '\\\\n'); return next(url, context) }"
register('data:text/javascript,' + encodeURIComponent(hooks))
const tellRequired = () => console.log(Object.keys(createRequire(process.argv[1]).cache).join('\\n'))
const { sft } = await import(process.argv[1])
tellRequired()
console.log('--')
try { sft({}) } catch (error) { console.log(error.code) }
tellRequired()
`

const packagesIn = (text: string) =>
  [...new Set([...text.matchAll(/node_modules\/((?:@[^/\n]+\/)?[^/\n]+)/g)].map(([, name]) => name))].sort()

test('importing the package reads neither zod nor what speaks with the network, and opens no addon', async (t) => {
  const entry = fileURLToPath(new URL('../lib/index.js', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '--eval',
    program,
    entry,
  ])
  const [imported = '', checked = ''] = stdout.split('--\n')
  t.regex(imported, /dist\/lib\/train\/sft\.js\n/)
  t.deepEqual(packagesIn(imported), ['@huggingface/tokenizers'])
  t.notRegex(imported, /^node:(http|https|tls|net)$/m)
  t.notRegex(imported, /\.node$/m)
  // What was required is seen.
  t.regex(checked, /^ERR_INVALID_ARGUMENT\n/)
  t.deepEqual(packagesIn(checked), ['zod'])
})
