import { createHash } from 'node:crypto'
import { PosttrainError } from '../errors.js'
import { neverStops } from './dataset.js'
import { type Digest, DigestSet, digest } from './encode/digests.js'
import { type Encoded, RowEncoder } from './encode/encode.js'
import type { EncodedRow } from './encode/mask.js'
import { type DataReport, ReportBuilder } from './encode/report.js'
import { TokenStore } from './encode/token-store.js'
import { ingest } from './ingest.js'
import type { Origin } from './rows/fields.js'
import type { Example } from './rows/rows.js'
import { type DataSource, unweighted, type Validation } from './sources.js'
import type { Template } from './text/template.js'
import type { Tokenizer } from './text/tokenizer.js'
import { heldOut, type Split, withValidation } from './validation.js'

/** Responses to one prompt, in the store one after another from `first` on. */
export interface ResponseGroup {
  first: number
  count: number
  /** `file:line`. */
  origin: string
}

/**
 * What became of the rows. `rows` and `dropped` count responses, but `dropped.badRow` rows; `judgements` counts prompts
 * with responses that are left. `duplicates` and `sharedWithValidation` count prompts with all their responses.
 */
export interface ResponseReport extends DataReport {
  judgements: number
  pairs: number
  /** Pairs that were dropped since a side was: it is too long, or empty. */
  brokenPairs: number
  /** Pairs that were dropped since both sides are the same. */
  identical: number
}

export type PairCounts = Pick<ResponseReport, 'pairs' | 'brokenPairs' | 'identical'>

/** Encoded responses in groups by their prompts. Several sets may look at one store. */
export interface ResponseSet<Group extends ResponseGroup> {
  store: TokenStore
  /** Added to the places of the store, so that those of two sets of one run differ. */
  firstPlace: number
  groups: Group[]
  report: ResponseReport
  /** Changes with every id, pair and label, and with which rows are meant. */
  hash: string
}

export interface ResponseOptions {
  tokenizer: Tokenizer
  template: Template
  /** Tokens of prompt and response at most; nothing is cut, what is longer is dropped and counted. */
  maxLength: number
  onBadRow: 'error' | 'skip'
  validation?: Validation | undefined
  /** Decides which rows a validation fraction takes. */
  seed: number
  signal?: AbortSignal | undefined
}

/** How rows of a kind become groups of responses. */
export interface ResponseKind<Read extends { examples: Example[] }, Group extends ResponseGroup> {
  /** What such rows are called. */
  rows: string
  read(row: unknown, origin: Origin): Read
  /** Which responses stay, and what the group knows of them; a dropped one is null. Null where nothing stays. */
  group(
    read: Read,
    encoded: readonly (EncodedRow | null)[],
    counts: PairCounts,
  ): { used: readonly number[]; known: Omit<Group, keyof ResponseGroup> } | null
  /** Tells apart what is known of the same responses in two rows. */
  mark(group: Group): number
  /** What the hash of a set takes of a group. Hashes stand in run folders: it stays as it is. */
  hashed(group: Group): unknown
}

/** Rows handed to the encoder at once; each has several responses. */
const SLICE = 16

/** Reads, checks and encodes responses, once. Throws ERR_DATA as `loadDataset` does. */
export async function loadResponses<Read extends { examples: Example[] }, Group extends ResponseGroup>(
  kind: ResponseKind<Read, Group>,
  source: DataSource,
  options: ResponseOptions,
): Promise<Split<ResponseSet<Group>>> {
  const load = (from: DataSource) => loadSet(kind, from, options)
  return await withValidation<ResponseSet<Group>, ResponseSet<Group>>(
    await load(source),
    options.validation,
    {
      alone: (whole) => whole,
      split: (whole, fraction) => split(kind, whole, fraction, options.seed),
      load,
      beside: (whole, other) => withShared(kind, whole, { ...other, firstPlace: whole.store.length }),
    },
  )
}

async function loadSet<Read extends { examples: Example[] }, Group extends ResponseGroup>(
  kind: ResponseKind<Read, Group>,
  source: DataSource,
  options: ResponseOptions,
): Promise<ResponseSet<Group>> {
  const { tokenizer, template, maxLength, onBadRow, signal } = options
  const encoder = new RowEncoder(tokenizer, template, { maxLength, trainOn: 'assistant', overflow: 'drop' })
  const set = new SetBuilder(kind)
  try {
    for (const data of unweighted(source, `${kind.rows} have no source weight`)) {
      await ingest<Read, { responses: Encoded[] }>(data, {
        onBadRow,
        signal,
        slice: SLICE,
        read: kind.read,
        async encode(rows) {
          const encoded = await encoder.encode(rows.flatMap(({ examples }) => examples))
          let at = 0
          return rows.map(({ examples }) => {
            const results = encoded.slice(at, at + examples.length)
            at += examples.length
            const failed = results.find((result) => 'error' in result)
            return failed ?? { responses: results as Encoded[] }
          })
        },
        keep: (read, { responses }, origin) => set.keep(read, responses, origin),
        skip: (message) => set.builder.badRow(message),
      })
    }
    return set.finish(options)
  } catch (error) {
    await set.store.close()
    throw error
  } finally {
    await encoder.close()
  }
}

/** A set while its rows come by. */
class SetBuilder<Read extends { examples: Example[] }, Group extends ResponseGroup> {
  readonly store = new TokenStore()
  readonly builder = new ReportBuilder()
  readonly #kind: ResponseKind<Read, Group>
  readonly #groups: Group[] = []
  readonly #counts: PairCounts = { pairs: 0, brokenPairs: 0, identical: 0 }

  constructor(kind: ResponseKind<Read, Group>) {
    this.#kind = kind
  }

  /** Stores the responses of a row that are used. */
  async keep(read: Read, responses: readonly Encoded[], origin: Origin): Promise<void> {
    const { store, builder } = this
    builder.read()
    const rows = responses.map(({ rows: [row = 'empty'] }): EncodedRow | null => {
      if (typeof row !== 'string') return row
      builder.left(row)
      return null
    })
    const kept = this.#kind.group(read, rows, this.#counts)
    if (kept === null) return
    const first = store.length
    for (const place of kept.used) {
      await store.append(rows[place]!)
      builder.kept(rows[place]!, read.examples[place]!.kind)
    }
    const place = { first, count: kept.used.length, origin: `${origin.source}:${origin.line}` }
    const group = { ...place, ...kept.known } as Group
    const ids = digestOf(this.#kind, store, group)
    builder.content([ids], joined(responses.map(({ words }) => words)))
    this.#groups.push(group)
  }

  /** Throws ERR_DATA where nothing, or no end of a response, can be learnt. */
  finish(options: ResponseOptions): ResponseSet<Group> {
    const groups = this.#groups
    const report = { ...this.builder.finish(), judgements: groups.length, ...this.#counts }
    if (groups.length === 0) throw nothingLeft(report, options)
    if (this.builder.neverStops) throw neverStops(options)
    const { store } = this
    return { store, firstPlace: 0, groups, report, hash: hashOf(this.#kind, store, groups) }
  }
}

function nothingLeft({ read, dropped, identical }: ResponseReport, { maxLength }: ResponseOptions) {
  const { badRow, tooLong, noLabels, empty } = dropped
  return new PosttrainError(
    'ERR_DATA',
    `there is nothing to learn from: of ${read} rows ${badRow} are bad, ${tooLong} answers too long (maxLength ${maxLength}), ${noLabels + empty} empty, ${identical} pairs identical`,
  )
}

const joined = (digests: readonly Digest[]) => digest(digests.join())

/** The same for groups that have the same responses in the same order. */
function digestOf<Group extends ResponseGroup>(
  kind: Pick<ResponseKind<never, Group>, 'mark'>,
  store: TokenStore,
  group: Group,
): Digest {
  return joined([
    ...Array.from({ length: group.count }, (_, i) => store.digestOf(group.first + i)),
    [kind.mark(group), 0],
  ])
}

/** Counts what training and validation have in common. */
function withShared<Group extends ResponseGroup>(
  kind: Pick<ResponseKind<never, Group>, 'mark'>,
  train: ResponseSet<Group>,
  validation: ResponseSet<Group>,
): Split<ResponseSet<Group>> {
  const known = new DigestSet()
  for (const group of validation.groups) known.add(digestOf(kind, validation.store, group))
  const shared = train.groups.filter((group) => known.has(digestOf(kind, train.store, group))).length
  return { train: { ...train, report: { ...train.report, sharedWithValidation: shared } }, validation }
}

/** Takes a fraction of the prompts, chosen by the seed, for validation. */
function split<Group extends ResponseGroup>(
  kind: Pick<ResponseKind<never, Group>, 'mark' | 'hashed'>,
  whole: ResponseSet<Group>,
  fraction: number,
  seed: number,
): Split<ResponseSet<Group>> {
  const held = heldOut(whole.groups.length, fraction, seed)
  const part = (taken: boolean): ResponseSet<Group> => {
    const groups = whole.groups.filter((_, i) => held.has(i) === taken)
    return { ...whole, groups, hash: hashOf(kind, whole.store, groups) }
  }
  return withShared(kind, part(false), part(true))
}

function hashOf<Group extends ResponseGroup>(
  kind: Pick<ResponseKind<never, Group>, 'hashed'>,
  store: TokenStore,
  groups: readonly Group[],
): string {
  const hash = createHash('sha256').update(store.hash)
  for (const group of groups) hash.update(JSON.stringify(kind.hashed(group)))
  return hash.digest('hex')
}
