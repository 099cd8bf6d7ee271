/**
 * Slope through points [x, y]: the median of the slopes of all pairs, which a passing peak (memory that a collector has
 * not given back yet) does not move, and a steady growth does.
 */
export function slopeOf(points: readonly (readonly [number, number])[]): number {
  const slopes = points.flatMap(([x, y], i) => points.slice(i + 1).map(([u, v]) => (v - y) / (u - x)))
  slopes.sort((a, b) => a - b)
  const middle = (slopes.length - 1) / 2
  return (slopes[Math.floor(middle)]! + slopes[Math.ceil(middle)]!) / 2
}
