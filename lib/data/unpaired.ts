import {
  loadResponses,
  type ResponseGroup,
  type ResponseKind,
  type ResponseOptions,
  type ResponseSet,
} from './responses.js'
import type { Example } from './rows/rows.js'
import { readUnpaired } from './rows/unpaired-rows.js'
import type { DataSource } from './sources.js'
import type { Split } from './validation.js'

/** A single response with its label. */
export interface UnpairedResponse extends ResponseGroup {
  desirable: boolean
}

export type UnpairedSet = ResponseSet<UnpairedResponse>

const unpaired: ResponseKind<{ examples: Example[]; desirable: boolean }, UnpairedResponse> = {
  name: 'unpaired',
  read(row, origin) {
    const { example, desirable } = readUnpaired(row, origin)
    return { examples: [example], desirable }
  },
  group: ({ desirable }, [row]) => (row == null ? null : { used: [0], known: { desirable } }),
  pairsIn: () => 0,
  mark: ({ desirable }) => Number(desirable),
  hashed: ({ first, count, desirable }) => [first, count, [], desirable],
}

/** Reads unpaired preference data: single responses with a `label` (KTO). Throws ERR_DATA. */
export async function loadUnpaired(
  source: DataSource,
  options: ResponseOptions,
): Promise<Split<UnpairedSet>> {
  return await loadResponses(unpaired, source, options)
}
