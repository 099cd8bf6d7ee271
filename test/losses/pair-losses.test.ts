import test from 'ava'
import { loadCore } from '../../lib/addon/load.js'
import { dpoLoss } from '../../lib/losses/index.js'
import { flagsOf } from '../../lib/options/flags.js'
import { PAIR_LOSS_NAMES, pairLoss, pairLossOptions } from '../../lib/options/pair-losses.js'
import { dpoOptions } from '../../lib/train/options/preference.js'

test('the table of pair losses and that of the core have the same names, needs and defaults', async (t) => {
  const core = await loadCore()
  const ours = PAIR_LOSS_NAMES.map((name) => {
    const { referenceFree = false, lengths = false } = pairLoss(name)
    const { sftCoef: _, ...defaults } = pairLossOptions(name, {})
    return { name, referenceFree, lengths, ...defaults }
  })
  t.deepEqual(core.pairLosses(), ours)
})

test('dpoLoss has the defaults of the table, which are those of dpo', async (t) => {
  const pair = {
    chosenLogProbs: Float64Array.of(-4),
    rejectedLogProbs: Float64Array.of(-6),
    chosenReferenceLogProbs: Float64Array.of(-6),
    rejectedReferenceLogProbs: Float64Array.of(-5),
    chosenLengths: Int32Array.of(2),
    rejectedLengths: Int32Array.of(4),
  }
  for (const kind of PAIR_LOSS_NAMES) {
    const { sftCoef: _, ...defaults } = pairLossOptions(kind, {})
    t.deepEqual(await dpoLoss({ ...pair, kind }), await dpoLoss({ ...pair, kind, ...defaults }), kind)
  }
})

test('explicit options override the defaults', (t) => {
  t.deepEqual(pairLossOptions('simpo', {}), { beta: 2, labelSmoothing: 0, gamma: 1, lambda: 0, sftCoef: 0 })
  t.deepEqual(pairLossOptions('simpo', { beta: 3, gamma: 0, sftCoef: 0.5 }), {
    ...{ beta: 3, labelSmoothing: 0, gamma: 0, lambda: 0, sftCoef: 0.5 },
  })
  t.like(pairLossOptions('cpo', {}), { beta: 0.1, sftCoef: 1 })
  t.like(pairLossOptions('cpo', { sftCoef: 0 }), { sftCoef: 0 })
})

test('the help of dpo says which losses read an option, and the defaults of each', (t) => {
  const textOf = (name: string) => flagsOf(dpoOptions.schema()).find((flag) => flag.name === name)?.text
  t.regex(textOf('beta')!, /\(default: 0\.1; simpo 2\)$/)
  t.regex(textOf('label-smoothing')!, /losses robust, cdpo and exo \(default: 0; exo 0\.001\)$/)
  t.regex(textOf('gamma')!, /loss simpo \(default: 1\)$/)
  t.regex(textOf('lambda')!, /loss dpop .*\(default: 50\)$/)
  t.regex(textOf('sft-coef')!, /\(default: 0; cpo 1\)$/)
})
