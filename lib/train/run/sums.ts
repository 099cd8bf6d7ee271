/** Sums over the batches of a step or an evaluation, before normalization: of loss terms and of a recipe's own. */
export type Sums = { lossSum: number; count: number; [sum: string]: number }

/** Adds the sums of two batches; `min...` and `max...` are combined as extremes. */
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

/** A sum divided by its count; 0 if the count is 0. */
export function ratio(sum: number | undefined, count: number | undefined): number {
  return count === undefined || count === 0 ? 0 : (sum ?? 0) / count
}

/** Mean of values; 0 if there are none. */
export function mean(values: ArrayLike<number>): number {
  return ratio(
    Array.from(values).reduce((sum, value) => sum + value, 0),
    values.length,
  )
}

/** Population variance of values. */
export function variance(values: ArrayLike<number>): number {
  const center = mean(values)
  return mean(Array.from(values, (value) => (value - center) ** 2))
}
