import { DigestSet } from './digests.js'
import type { TokenStore } from './token-store.js'

/** Counts the `rows` of a store that are, token for token, among `others` of another (or the same) store. */
export function sharedRows(
  rows: { store: TokenStore; parts: readonly { rows: Uint32Array }[] },
  others: { store: TokenStore; parts: readonly { rows: Uint32Array }[] },
): number {
  const known = new DigestSet()
  for (const part of others.parts) for (const row of part.rows) known.add(others.store.digestOf(row))
  let shared = 0
  for (const part of rows.parts)
    for (const row of part.rows) shared += Number(known.has(rows.store.digestOf(row)))
  return shared
}
