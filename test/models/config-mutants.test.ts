import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { PosttrainError } from '../../lib/errors.js'
import { parseJsonObject } from '../../lib/files/read.js'
import { familyOf } from '../../lib/models/families/index.js'
import { hash32 } from '../../lib/random.js'
import { fixture } from '../helpers/fixtures.js'

type Json = Record<string, unknown>

/** 50,000 in a longer run. */
const COUNT = Number(process.env.POSTTRAIN_FUZZ_CONFIGS ?? 2_000)
const VALUES: unknown[] = [
  null,
  5,
  -1,
  0,
  1.5,
  1e308,
  2 ** 53,
  'x',
  '',
  [],
  {},
  true,
  [null],
  { type: null },
  [[[]]],
]
const PIECES = ['{', '}', '[', ']', '"', ',', '0', '-', 'null', '\\', '9'.repeat(20), '\0', '['.repeat(300)]

/** A config with up to three fields of other values, or up to three cuts in its text. */
function mutant(text: string, n: number): string {
  const draw = (k: number, below: number) => hash32(9, n, k) % Math.max(1, below)
  const json = JSON.parse(text) as Json
  let changed = text
  for (let k = 0; k <= n % 3; k++) {
    if (n % 2 === 1) {
      let node = json
      let key = Object.keys(node)[draw(10 * k, Object.keys(node).length)]!
      while (
        typeof node[key] === 'object' &&
        node[key] !== null &&
        Object.keys(node[key] as Json).length > 0
      ) {
        node = node[key] as Json
        key = Object.keys(node)[draw(10 * k + 1, Object.keys(node).length)]!
      }
      node[key] = structuredClone(VALUES[draw(10 * k + 2, VALUES.length)])
      changed = JSON.stringify(json)
    } else {
      const at = draw(10 * k, changed.length)
      const piece = PIECES[draw(10 * k + 1, PIECES.length)]!
      changed = changed.slice(0, at) + piece + changed.slice(at + draw(10 * k + 2, 20))
    }
  }
  return changed
}

test(`${COUNT} mutants of config.json are read, or refused with a typed error, each within two seconds`, (t) => {
  const names = ['gpt2', 'llama', 'mistral', 'qwen2', 'qwen3', 'gemma3']
  const texts = names.map((name) => readFileSync(join(fixture('models', name), 'config.json'), 'utf8'))
  let refusals = 0
  for (let n = 0; n < COUNT; n++) {
    const text = mutant(texts[n % texts.length]!, n)
    const start = performance.now()
    try {
      const config = parseJsonObject(text, 'config.json')
      const family = familyOf(config)
      family.decoder(config)
      family.contextLength(config)
    } catch (error) {
      refusals++
      if (!(error instanceof PosttrainError)) t.fail(`mutant ${n}: ${(error as Error).stack}\n${text}`)
    }
    const took = performance.now() - start
    if (took > 2_000) t.fail(`mutant ${n}: ${took} ms\n${text}`)
  }
  t.true(refusals > COUNT / 4 && refusals < COUNT, `${refusals} refusals`)
})
