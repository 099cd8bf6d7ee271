import test from 'ava'
import { loadHooks } from '../bindings/hooks.js'

const { hooks } = await loadHooks()

// The known answers of Random123 (kat_vectors, philox4x32 10 rounds): counter, key, result.
const vectors = [
  ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
  ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
  ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
]
const words = (text: string) => Uint32Array.from(text.split(' '), (word) => Number.parseInt(word, 16))

for (const [counter, key, result] of vectors) {
  test(`philox4x32-10 of ${counter}`, (t) => {
    t.deepEqual(hooks.philox(words(counter!), words(key!)), words(result!))
  })
}

test('normals have mean 0, variance 1 and kurtosis 3, and depend on seed and index alone', (t) => {
  const count = 100_001
  const values = hooks.normals(count, 7, 3)
  const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / count
  t.true(Math.abs(moment(1)) < 0.015, `mean ${moment(1)}`)
  t.true(Math.abs(moment(2) - 1) < 0.02, `variance ${moment(2)}`)
  t.true(Math.abs(moment(4) - 3) < 0.15, `fourth moment ${moment(4)}`)
  t.deepEqual(hooks.normals(10, 7, 3), values.slice(0, 10))
  t.notDeepEqual(hooks.normals(10, 8, 3), values.slice(0, 10))
  t.notDeepEqual(hooks.normals(10, 7, 4), values.slice(0, 10))
})
