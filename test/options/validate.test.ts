import test from 'ava'
import { PosttrainError } from '../../lib/errors.js'
import { type OptionSet, option } from '../../lib/options/option.js'
import { trainingConflicts, trainingFields } from '../../lib/options/training.js'
import { optionPaths, resolveOptions } from '../../lib/options/validate.js'
import { lazily } from '../../lib/options/zod.js'

const set = {
  name: 'recipe',
  schema: lazily((z) =>
    z.object({
      ...trainingFields(),
      epochs: option(z.number().gt(0).optional(), 'Passes over the data'),
      validation: option(z.string().optional(), 'Rows'),
      learningRate: option(z.number().gt(0).default(2e-5), 'Peak'),
    }),
  ),
  conflicts: trainingConflicts,
} satisfies OptionSet

function message(input: object): string {
  const error = (() => {
    try {
      resolveOptions(set, input as never)
    } catch (error) {
      return error
    }
    return undefined
  })()
  if (!(error instanceof PosttrainError)) throw new Error(`not refused: ${JSON.stringify(input)}`)
  return `${error.code} ${error.message}`
}

test('defaults are filled in', (t) => {
  const resolved = resolveOptions(set, { epochs: 2 })
  t.is(resolved.learningRate, 2e-5)
  t.is(resolved.maxGradNorm, 1)
  t.is(resolved.weightDecay, 0)
  t.is(resolved.shuffle, true)
  t.is(resolved.epochs, 2)
})

test('an unknown option is an error with the nearest name', (t) => {
  t.is(
    message({ learningrate: 1 }),
    'ERR_INVALID_ARGUMENT recipe: unknown option learningrate; did you mean learningRate?',
  )
  t.regex(
    message({ earlyStopping: { patiense: 2 } }),
    /unknown option earlyStopping\.patiense; did you mean earlyStopping\.patience\?/,
  )
  t.regex(message({ __proto__x: 1 }), /unknown option __proto__x; known are /)
})

test('values of the wrong kind or range are named with what was given', (t) => {
  t.is(
    message({ learningRate: 'fast' }),
    'ERR_INVALID_ARGUMENT recipe: option learningRate must be a number, got "fast"',
  )
  t.regex(message({ learningRate: -1 }), /option learningRate must be more than 0, got -1/)
  t.regex(message({ maxSteps: 1.5 }), /option maxSteps must be an integer, got 1\.5/)
  t.regex(message({ schedule: 'cosin' }), /option schedule must be one of cosine, linear, .*got "cosin"/)
  t.regex(message({ learningRate: Number.NaN }), /option learningRate must be a number, got NaN/)
  t.regex(message([]), /the options must be one object, got an array/)
})

test('an option without effect is an error, for each listed combination', (t) => {
  const cases: Record<string, object[]> = {
    maxSteps: [{ maxSteps: 3, epochs: 1 }],
    batchTokens: [{ batchTokens: 512, batchSize: 4 }],
    warmupRatio: [{ warmupRatio: 0.1, warmupSteps: 3 }],
    minLearningRateRatio: [{ minLearningRateRatio: 0.1, schedule: 'constant' }],
    decayRatio: [{ decayRatio: 0.1 }, { decayRatio: 0.1, schedule: 'linear' }],
    evaluation: [{ evaluation: { everySteps: 5 } }],
    earlyStopping: [
      { earlyStopping: {}, output: 'x' },
      { earlyStopping: {}, validation: 'x' },
    ],
    keep: [
      { keep: 'last', output: 'x' },
      { keep: 'best', validation: 'x' },
    ],
    checkpoints: [{ checkpoints: { everySteps: 1 } }],
    saveDtype: [{ saveDtype: 'bfloat16' }],
    resume: [{ resume: true }],
    overwrite: [{ overwrite: true }, { overwrite: true, resume: true, output: 'x' }],
    takeLock: [{ takeLock: true }],
  }
  for (const [name, inputs] of Object.entries(cases)) {
    for (const input of inputs) t.true(message(input).includes(`option ${name} `), message(input))
  }
  t.deepEqual(Object.keys(cases).sort(), [...new Set(trainingConflicts.map(({ option }) => option))].sort())
  t.notThrows(() =>
    resolveOptions(set, {
      earlyStopping: {},
      output: 'x',
      validation: 'y',
      decayRatio: 0.1,
      schedule: 'warmupStableDecay',
    }),
  )
})

test('every conflict names an option of the schema', (t) => {
  const known = new Set([...optionPaths(set.schema()), ...Object.keys(set.schema().shape)])
  for (const { option } of trainingConflicts) t.true(known.has(option), option)
})
