import test from 'ava'
import { PosttrainError } from '../../lib/errors.js'
import { generateOptions } from '../../lib/generate/options.js'
import { flagsOf } from '../../lib/options/flags.js'
import { resolveOptions } from '../../lib/options/validate.js'

const refused = (t: { throws: (...args: never[]) => unknown }, input: object): string => {
  const throws = t.throws as (f: () => unknown, expected: object) => PosttrainError
  return throws(() => resolveOptions(generateOptions, input as never), { instanceOf: PosttrainError }).message
}

test('sampling options without an effect are errors', (t) => {
  for (const [name, value] of Object.entries({ topK: 5, topP: 0.9, minP: 0.1, seed: 3 })) {
    t.is(
      refused(t as never, { [name]: value }),
      `generate: option ${name} has no effect at temperature 0: set a temperature above 0`,
    )
    t.notThrows(() => resolveOptions(generateOptions, { [name]: value, temperature: 1 }))
  }
  t.notThrows(() => resolveOptions(generateOptions, { topK: 0, topP: 1, minP: 0, seed: 0 }))
})

test('options that are out of range, unknown or empty are errors', (t) => {
  t.regex(refused(t as never, { maxTokens: 5 }), /unknown option maxTokens; did you mean maxNewTokens\?/)
  t.regex(refused(t as never, { maxNewTokens: 0 }), /maxNewTokens must be at least 1, got 0/)
  t.regex(refused(t as never, { stop: '' }), /option stop must not be empty/)
  t.regex(
    refused(t as never, { stop: 5 }),
    /stop must be a text, or a list of texts, none of them empty, got 5/,
  )
  t.regex(refused(t as never, { topP: 0, temperature: 1 }), /topP must be more than 0/)
})

test('flags: texts and ids may be repeated', (t) => {
  const flags = new Map(flagsOf(generateOptions.schema()).map((flag) => [flag.name, flag]))
  t.true(flags.get('stop')?.repeat)
  t.true(flags.get('stop-ids')?.repeat)
  t.is(flags.get('stop-ids')?.read('7'), 7)
  t.false(flags.has('signal'))
})
