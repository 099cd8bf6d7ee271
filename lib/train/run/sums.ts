/** Undivided sums over the batches of a step or an evaluation: those of the models' losses and a recipe's own. */
export type Sums = { lossSum: number; count: number; [sum: string]: number }

/** The sums of two batches together; `min...` and `max...` are extremes. */
export function addSums(a: Sums | null, b: Sums): Sums {
  if (a === null) return { ...b }
  const total = { ...a }
  for (const [name, value] of Object.entries(b)) {
    const before = total[name] ?? 0
    if (name.startsWith('min')) total[name] = Math.min(before, value)
    else if (name.startsWith('max')) total[name] = Math.max(before, value)
    else total[name] = before + value
  }
  return total
}

/** A sum over its count; 0 where nothing was counted. */
export function ratio(sum: number | undefined, count: number | undefined): number {
  return count === undefined || count === 0 ? 0 : (sum ?? 0) / count
}

/** Mean of some values, 0 of none. */
export function mean(values: ArrayLike<number>): number {
  return ratio(
    Array.from(values).reduce((sum, value) => sum + value, 0),
    values.length,
  )
}

/** Mean squared distance of some values from their mean. */
export function variance(values: ArrayLike<number>): number {
  const center = mean(values)
  return mean(Array.from(values, (value) => (value - center) ** 2))
}
