import test from 'ava'
import { editDistance, nearestName } from '../../lib/options/nearest.js'

test('edits are counted, a swap of neighbors is one', (t) => {
  t.is(editDistance('', 'abc'), 3)
  t.is(editDistance('kitten', 'sitting'), 3)
  t.is(editDistance('epohcs', 'epochs'), 1)
})

test('the nearest name is found across case and hyphens', (t) => {
  const known = ['learningRate', 'epochs', 'batchSize', 'warmupSteps', 'maxLength']
  t.is(nearestName('learning_rate', known), 'learningRate')
  t.is(nearestName('epoch', known), 'epochs')
  t.is(nearestName('batch-size', known), 'batchSize')
  t.is(nearestName('maxLenght', known), 'maxLength')
  t.is(nearestName('warmup', known), 'warmupSteps')
  t.is(nearestName('entirelyElse', known), undefined)
  // A name of other trainers, but where it begins one of ours.
  t.is(nearestName('checkpoint', ['model', 'output', 'prompt']), 'model')
  t.is(nearestName('--checkpoint', ['model', 'output', 'checkpoints-every']), 'checkpoints-every')
})
