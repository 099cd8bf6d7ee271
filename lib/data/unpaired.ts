import {
  loadResponses,
  type ResponseGroup,
  type ResponseKind,
  type ResponseOptions,
  type ResponseSet,
} from './responses.js'
import type { Example } from './rows/rows.js'
import { labeledIn } from './rows/unpaired-rows.js'
import type { DataSource } from './sources.js'
import type { Split } from './validation.js'

/** A single response with its label. */
export interface UnpairedResponse extends ResponseGroup {
  desirable: boolean
}

export type UnpairedSet = ResponseSet<UnpairedResponse>

const unpaired: ResponseKind<{ examples: Example[]; desirable: boolean[] }, UnpairedResponse> = {
  name: 'unpaired',
  read(columns) {
    const responses = labeledIn(columns)
    return {
      examples: responses.map(({ example }) => example),
      desirable: responses.map(({ desirable }) => desirable),
    }
  },
  groups: ({ desirable }, encoded) =>
    encoded.flatMap((row, i) => (row === null ? [] : [{ used: [i], known: { desirable: desirable[i]! } }])),
  pairsIn: () => 0,
  mark: ({ desirable }) => Number(desirable),
  hashed: ({ first, count, desirable }) => [first, count, [], desirable],
}

/** Reads unpaired preference data: single responses with a `label` (KTO), or pairs without one. Throws ERR_DATA. */
export async function loadUnpaired(
  source: DataSource,
  options: ResponseOptions,
): Promise<Split<UnpairedSet>> {
  return await loadResponses(unpaired, source, options)
}
