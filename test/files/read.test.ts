import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { LIMITS, parseJsonObject } from '../../lib/files/read.js'
import { CausalLM, PosttrainError, Tokenizer } from '../../lib/index.js'
import { fixture } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'

/** A model folder in which one file is made anew. */
function spoiled(t: ExecutionContext, name: string, make: (path: string) => void): string {
  const folder = join(newFolder(t), 'model')
  cpSync(fixture('models', 'llama'), folder, { recursive: true })
  rmSync(join(folder, name), { force: true })
  make(join(folder, name))
  return folder
}

const KINDS: [string, (path: string) => void, RegExp][] = [
  ['a named pipe', (path) => execFileSync('mkfifo', [path]), /is not a file/],
  ['a link to a device', (path) => symlinkSync('/dev/zero', path), /is not a file/],
  ['a folder', (path) => mkdirSync(path), /is not a file/],
  [
    'a link to nothing',
    (path) => symlinkSync('/nowhere', path),
    /is a link to \/nowhere, which does not exist/,
  ],
  [
    'larger than its limit',
    (path) => {
      writeFileSync(path, '{}')
      truncateSync(path, LIMITS.tokenizer + 1)
    },
    /more than the \d+ MB/,
  ],
]
for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json']) {
  for (const [kind, make, message] of KINDS) {
    test(`${name} that is ${kind} is refused before it is read`, async (t) => {
      const folder = spoiled(t, name, make)
      const load = name.startsWith('tokenizer') ? Tokenizer.load(folder) : CausalLM.load(folder)
      await t.throwsAsync(load, { instanceOf: PosttrainError, code: 'ERR_INVALID_FILE', message })
    })
  }
}

test('JSON of a model is nested at most 100 levels deep; the error has the line', (t) => {
  const nested = (depth: number) => `{\n"a": ${'['.repeat(depth)}${']'.repeat(depth)}}`
  t.truthy(parseJsonObject(nested(99), 'config.json'))
  t.throws(() => parseJsonObject(nested(100), 'config.json'), {
    code: 'ERR_INVALID_FILE',
    message: 'config.json:2 is nested more than 100 levels deep',
  })
  t.throws(() => parseJsonObject(nested(200_000), 'config.json'), { code: 'ERR_INVALID_FILE' })
  t.deepEqual(parseJsonObject(`{"a": ${JSON.stringify('[{"\\'.repeat(500))}}`, 'x'), {
    a: '[{"\\'.repeat(500),
  })
})
