import { join } from 'node:path'
import { BATCH, type EntryPoint, entry, type Given, PADDED, SIGNAL } from './entry-point.js'

function terms({ model, reward }: Given): EntryPoint[] {
  const kinds: Record<string, Record<string, unknown>> = {
    weightedLogProb: { weights: Float32Array.of(0, 1, 1) },
    ppoPolicy: {
      oldLogProbs: new Float32Array(3),
      advantages: new Float32Array(3),
      clipLow: 0.2,
      dualClip: 3,
      sequence: false,
    },
    ppoValue: { oldValues: new Float32Array(3), returns: new Float32Array(3), clip: 0.2 },
    kl: { estimator: 'k1', referenceLogProbs: new Float32Array(3) },
    fullKl: { direction: 'forward', reference: model },
    dpo: { loss: 'sigmoid', pairs: Int32Array.of(0, 0), referenceSums: new Float32Array(1) },
    pairwiseReward: { pairs: Int32Array.of(0, 0) },
    kto: { desirable: Uint8Array.of(1), referenceSums: new Float32Array(1), kl: 0, beta: 0.1 },
  }
  return [
    ...Object.entries(kinds).map(([kind, fields]) =>
      entry(
        `evaluate of ${kind}`,
        (value) => (kind === 'ppoValue' || kind === 'pairwiseReward' ? reward : model).evaluate(BATCH, value),
        [],
        { kind, ...fields },
      ),
    ),
  ]
}

export function modelMethods(given: Given): EntryPoint[] {
  const { api, model, reward, folder } = given
  const term = { kind: 'crossEntropy', coefficient: 1 }
  const ids = { promptIds: Int32Array.of(1), completionIds: Int32Array.of(2) }
  const into = join(folder, 'out')
  const pad = model.tokenizer.idToToken(5)
  const parameter = 'model.norm.weight'
  const methods: EntryPoint[] = [
    entry('model.backward', (...args) => model.backward(...(args as [never, never])), [BATCH, term], {
      signal: SIGNAL,
      normalizer: 1,
      temperature: 1,
    }),
    entry('model.evaluate', (...args) => model.evaluate(...(args as [never, never])), [BATCH, term], {
      signal: SIGNAL,
      normalizer: 1,
      temperature: 1,
    }),
    entry('model.backward of a term', (value) => model.backward(BATCH, value), [], term),
    entry(
      'model.backward of a packed batch',
      (value) => model.backward(value, { kind: 'crossEntropy' }),
      [],
      BATCH,
    ),
    entry(
      'model.backward of a padded batch',
      (value) => model.backward(value, { kind: 'crossEntropy' }),
      [],
      PADDED,
    ),
    entry('model.logits', (...args) => model.logits(...(args as [never])), [BATCH]),
    entry('model.logits of a batch', (...args) => model.logits(...(args as [never])), [], BATCH),
    entry('model.logProbs', (...args) => model.logProbs(...(args as [never])), [[ids]], {
      temperature: 1,
      signal: SIGNAL,
    }),
    entry('model.logProbs of a row', (row) => model.logProbs([row]), [], ids),
    entry('model.view', (...args) => model.view(...(args as [])), [], { adapter: null }),
    entry('model.getParameter', (...args) => model.getParameter(...(args as [never])), [parameter]),
    entry('model.getGradient', (...args) => model.getGradient(...(args as [never])), [parameter]),
    entry('model.setParameter', (...args) => model.setParameter(...(args as [never, never])), [
      parameter,
      new Float32Array(24),
    ]),
    entry('model.save', (...args) => model.save(...(args as [never])), [into], {
      dtype: 'float32',
      overwrite: true,
      signal: SIGNAL,
    }),
    entry('model.saveWeights', (...args) => model.saveWeights(...(args as [never])), [
      join(folder, 'w.safetensors'),
      SIGNAL,
    ]),
    entry('model.loadWeights', (...args) => model.loadWeights(...(args as [never])), [
      join(folder, 'w.safetensors'),
    ]),
    entry('model.addAdapter', (...args) => model.addAdapter(...(args as [never])), ['a'], {
      rank: 2,
      alpha: 2,
      dropout: 0,
      targetModules: ['q_proj'],
    }),
    entry(
      'model.loadAdapter',
      (...args) => model.loadAdapter(...(args as [never, never])),
      ['b', 'nowhere'],
      { token: undefined, revision: undefined, signal: SIGNAL },
    ),
    entry('model.copyAdapter', (...args) => model.copyAdapter(...(args as [never, never])), ['a', 'c']),
    entry('model.setAdapter', (...args) => model.setAdapter(...(args as [never])), [null]),
    entry('model.saveAdapter', (...args) => model.saveAdapter(...(args as [never])), [into], {
      overwrite: true,
    }),
    entry('model.adoptTemplate', (...args) => model.adoptTemplate(...(args as [never])), [api.plainTemplate]),
    entry('reward.scores', (...args) => reward.scores(...(args as [never])), [[ids]], { signal: SIGNAL }),
    entry('reward.scores of a row', (row) => reward.scores([row]), [], ids),
    entry('reward.values', (...args) => reward.values(...(args as [never])), [BATCH], { signal: SIGNAL }),
    entry('reward.view', (...args) => reward.view(...(args as [])), [], { adapter: null }),
    entry('reward.save', (...args) => reward.save(...(args as [never])), [into], {
      padToken: pad,
      overwrite: true,
      dtype: 'float32',
    }),
    entry('reward.padFor', (...args) => reward.padFor(...(args as [])), [pad]),
  ]
  return [...methods, ...terms(given)]
}
