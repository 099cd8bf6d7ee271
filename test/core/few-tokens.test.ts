// The product that decoding uses, in each instruction set that this processor has.
import test from 'ava'
import { loadHooks } from '../bindings/hooks.js'
import { close } from '../helpers/close.js'

const { hooks } = await loadHooks()
const numbers = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i * seed + seed))
/** Whole and broken fours and panels of rows, and columns that fill vectors and pieces of a row or not. */
const SHAPES = [
  [1, 1],
  [3, 5],
  [4, 16],
  [7, 37],
  [8, 768],
  [9, 771],
  [13, 1600],
  [69, 800],
] as const

for (const way of [0, 1, 2]) {
  test(`way ${way}: the product of few tokens is the sum of its factors`, (t) => {
    for (const [rows, columns] of SHAPES) {
      for (const tokens of [1, 2, 3, 4, 5, 6, 7, 29]) {
        const [w, x] = [numbers(rows * columns, 1), numbers(tokens * columns, 2)]
        const found = hooks.multiplyFew(way, w, x, columns)
        if (found === null) return t.pass('this processor has fewer instruction sets')
        const expected = Array.from({ length: tokens * rows }, (_, i) => {
          const [token, row] = [Math.floor(i / rows), i % rows]
          let sum = 0
          for (let k = 0; k < columns; k++) sum += w[row * columns + k]! * x[token * columns + k]!
          return sum
        })
        close(t, found, expected, { absolute: 1e-5 * Math.sqrt(columns) }, `${rows} x ${columns}, ${tokens}`)
      }
    }
  })

  test(`way ${way}: a value depends on its token and its row of the weights alone`, (t) => {
    for (const [rows, columns] of SHAPES) {
      const [w, x] = [numbers(rows * columns, 1), numbers(29 * columns, 2)]
      const together = hooks.multiplyFew(way, w, x, columns)
      if (together === null) return t.pass('this processor has fewer instruction sets')
      for (const token of [0, 4, 28]) {
        const alone = hooks.multiplyFew(way, w, x.slice(token * columns, (token + 1) * columns), columns)
        t.deepEqual(alone, together.slice(token * rows, (token + 1) * rows), `${rows} x ${columns}`)
      }
      // As threads share the rows
      const last = hooks.multiplyFew(way, w.slice((rows - 1) * columns), x, columns)!
      t.deepEqual(
        [...last],
        [...together].filter((_, i) => i % rows === rows - 1),
      )
    }
  })
}
