import { createHash } from 'node:crypto'
import { PosttrainError } from '../errors.js'
import { neverStops } from './dataset.js'
import { type Digest, DigestSet, digest } from './encode/digests.js'
import { type Encoded, RowEncoder, refuseSeveral } from './encode/encode.js'
import type { Dropped, EncodedRow } from './encode/mask.js'
import type { Reasoning } from './encode/reasoning.js'
import { type DataReport, ReportBuilder } from './encode/report.js'
import { TokenStore } from './encode/token-store.js'
import { type Ingestion, ingest } from './ingest.js'
import type { Origin } from './rows/fields.js'
import type { Example } from './rows/rows.js'
import type { StringForm } from './rows/string-rows.js'
import { type DataSource, unweighted, type Validation } from './sources.js'
import type { Template } from './text/template.js'
import type { Tokenizer } from './text/tokenizer.js'
import { heldOut, type Split, withValidation } from './validation.js'

/** Responses to one prompt, consecutive in the store from `first` on. */
export interface ResponseGroup {
  first: number
  count: number
  /** `file:line`. */
  origin: string
}

/**
 * Report of preference or unpaired data. `rows` and `dropped` count responses, `dropped.badRow` rows; `judgements` counts
 * prompts with remaining responses. `duplicates` and `sharedWithValidation` count prompts with all their responses.
 */
export interface ResponseReport extends DataReport {
  judgements: number
  pairs: number
  /** Pairs dropped because a response was: too long or empty. */
  brokenPairs: number
  /** Pairs dropped because both responses are the same. */
  identical: number
  /** Rows whose responses have prompts of their own, which a reward model alone compares. */
  apart: number
}

export type PairCounts = Pick<ResponseReport, 'pairs' | 'brokenPairs' | 'identical' | 'apart'>

/** Encoded responses, grouped by prompt. Several sets can share one store. */
export interface ResponseSet<Group extends ResponseGroup> {
  store: TokenStore
  /** Added to places in the store, so that those of two sets in one run differ. */
  firstPlace: number
  groups: Group[]
  report: ResponseReport
  /** Whether rows were rendered by the template. */
  templated: boolean
  /** Depends on all ids, pairs and labels, and on the choice of rows. */
  hash: string
}

export interface ResponseOptions extends StringForm {
  tokenizer: Tokenizer
  template: Template
  /** Maximum tokens of prompt and response; longer ones are dropped and counted, never truncated. */
  maxLength: number
  onBadRow: 'error' | 'skip'
  /** What becomes of the reasoning of assistant turns; default: what the template does. */
  reasoning?: Reasoning | undefined
  validation?: Validation | undefined
  /** Seed of the choice of validation rows. */
  seed: number
  signal?: AbortSignal | undefined
}

/** Conversion of the rows of one kind to groups of responses. */
export interface ResponseKind<Read extends { examples: Example[] }, Group extends ResponseGroup> {
  /** Name of the kind, also in errors. */
  name: 'preference' | 'unpaired'
  read: Ingestion<Read, object>['read']
  /** Groups of a row, each with the responses to keep and its own fields. A dropped response is null. */
  groups(
    read: Read,
    encoded: readonly (EncodedRow | null)[],
    counts: PairCounts,
  ): { used: readonly number[]; known: Omit<Group, keyof ResponseGroup> }[]
  /** Pairs in a group. */
  pairsIn(group: Group): number
  /** Distinguishes groups with the same responses, by their label. */
  mark(group: Group): number
  /** Content of a group for the hash of a set. Hashes are saved in run folders: do not change it. */
  hashed(group: Group): unknown
}

/** Rows that are encoded at once; each has several responses. */
const SLICE = 16

/** Reads, checks and encodes responses, once. Throws ERR_DATA as `loadDataset` does. */
export async function loadResponses<Read extends { examples: Example[] }, Group extends ResponseGroup>(
  kind: ResponseKind<Read, Group>,
  source: DataSource,
  options: ResponseOptions,
): Promise<Split<ResponseSet<Group>>> {
  const load = (from: DataSource) => loadSet(kind, from, options)
  const { tokenizer } = options
  return await withValidation<SetBuilder<Read, Group>, ResponseSet<Group>>(
    await load(source),
    options.validation,
    {
      alone: async (whole) => await whole.set({ tokenizer }),
      split: async (whole, fraction) => {
        const held = heldOut(whole.rowOf.at(-1)! + 1, fraction, options.seed)
        const isHeld = (group: number) => held.has(whole.rowOf[group]!)
        return withShared(
          kind,
          await whole.set({ tokenizer, holds: (group) => !isHeld(group) }),
          await whole.set({ tokenizer, holds: isHeld, dropped: false }),
        )
      },
      load,
      beside: async (whole, other) => {
        const validation = await other.set({ tokenizer })
        return withShared(kind, await whole.set({ tokenizer }), {
          ...validation,
          firstPlace: whole.store.length,
        })
      },
    },
  )
}

async function loadSet<Read extends { examples: Example[] }, Group extends ResponseGroup>(
  kind: ResponseKind<Read, Group>,
  source: DataSource,
  options: ResponseOptions,
): Promise<SetBuilder<Read, Group>> {
  const { tokenizer, template, strings, rendered, maxLength, reasoning, onBadRow, signal } = options
  const encoder = new RowEncoder(tokenizer, template, {
    maxLength,
    trainOn: 'assistant',
    overflow: 'drop',
    reasoning,
    strings,
    rendered,
  })
  const set = new SetBuilder(kind)
  try {
    for (const data of unweighted(source, `${kind.name} rows have no source weight`)) {
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
            const failed = results.map(refuseSeveral).find((result) => 'error' in result)
            return failed ?? { responses: results as Encoded[] }
          })
        },
        keep: (read, { responses }, origin) => set.keep(read, responses, origin),
        skip: (message) => set.builder.badRow(message),
        note: (sentence) => set.builder.note(sentence),
        unread: { kind: kind.name, take: (columns) => set.builder.unread(columns) },
      })
    }
    set.check(options)
    return set
  } catch (error) {
    await set.store.close()
    throw error
  } finally {
    await encoder.close()
  }
}

/** Collects responses, and makes sets of all or some of their groups. */
class SetBuilder<Read extends { examples: Example[] }, Group extends ResponseGroup> {
  readonly store = new TokenStore()
  readonly builder = new ReportBuilder()
  readonly groups: Group[] = []
  /** Row of each group, counted over the rows that have one: those of a pair are held out for validation together. */
  readonly rowOf: number[] = []
  readonly #kind: ResponseKind<Read, Group>
  readonly #counts: PairCounts = { pairs: 0, brokenPairs: 0, identical: 0, apart: 0 }

  constructor(kind: ResponseKind<Read, Group>) {
    this.#kind = kind
  }

  /** Stores the responses of a row that its group keeps. */
  async keep(read: Read, responses: readonly Encoded[], origin: Origin): Promise<void> {
    const { store, builder } = this
    const dropped: Dropped[] = []
    const rows = responses.map(({ rows: [row = 'empty'] }): EncodedRow | null => {
      if (typeof row !== 'string') return row
      dropped.push(row)
      return null
    })
    const groups = this.#kind.groups(read, rows, this.#counts)
    if (groups.length === 0) builder.responses(dropped, [], wordsOf(responses))
    const row = (this.rowOf.at(-1) ?? -1) + 1
    for (const [i, { used, known }] of groups.entries()) {
      const kept = used.map((place) => ({
        row: rows[place]!,
        kind: read.examples[place]!.kind,
        encoded: responses[place]!,
      }))
      const first = store.length
      for (const { row: tokens } of kept) await store.append(tokens)
      const own = groups.length === 1 ? responses : used.map((place) => responses[place]!)
      builder.responses(i === 0 ? dropped : [], kept, wordsOf(own), i === 0)
      const name = `${origin.source}:${origin.line}`
      this.groups.push({ first, count: used.length, origin: name, ...known } as Group)
      this.rowOf.push(row)
    }
  }

  /** Throws ERR_DATA without usable responses, or where none trains a stop token. */
  check(options: ResponseOptions): void {
    if (this.groups.length === 0) throw nothingLeft({ ...this.builder.dropped, ...this.#counts }, options)
    if (this.builder.neverStops) throw neverStops(options)
  }

  /** The set of the groups that `holds` takes, by default all. Rows that were `dropped` are part of its report, or not. */
  async set({
    tokenizer,
    holds = () => true,
    dropped = true,
  }: {
    tokenizer: Tokenizer
    holds?: (group: number) => boolean
    dropped?: boolean
  }): Promise<ResponseSet<Group>> {
    const { store } = this
    const groups = this.groups.filter((_, i) => holds(i))
    const held = new Uint8Array(store.length)
    for (const { first, count } of groups) held.fill(1, first, first + count)
    const report = await this.builder.report({
      store,
      tokenizer,
      holds: (row) => held[row] === 1,
      dropped,
      digests: (entry) => [digestOf(this.#kind, store, this.groups[entry]!)],
    })
    const counts = { brokenPairs: 0, identical: 0, apart: 0, ...(dropped && this.#counts) }
    const pairs = groups.reduce((sum, group) => sum + this.#kind.pairsIn(group), 0)
    return {
      store,
      firstPlace: 0,
      groups,
      report: { ...report, judgements: groups.length, ...counts, pairs },
      templated: this.builder.templated,
      hash: hashOf(this.#kind, store, groups),
    }
  }
}

function nothingLeft(
  { read, dropped, identical }: Pick<ResponseReport, 'read' | 'dropped' | 'identical'>,
  { maxLength }: ResponseOptions,
) {
  const { badRow, tooLong, noLabels, empty } = dropped
  const sentence = `no usable responses: of ${read} rows ${badRow} are bad, ${tooLong} responses too long (maxLength ${maxLength}), ${noLabels + empty} empty, ${identical} pairs identical`
  return new PosttrainError('ERR_DATA', sentence)
}

const joined = (digests: readonly Digest[]) => digest(digests.join())

const wordsOf = (responses: readonly Encoded[]) => joined(responses.map(({ words }) => words))

/** Digest that is equal for groups with the same responses in the same order. */
function digestOf<Group extends ResponseGroup>(
  kind: Pick<ResponseKind<never, Group>, 'mark'>,
  store: TokenStore,
  group: Group,
): Digest {
  const digests = Array.from({ length: group.count }, (_, i) => store.digestOf(group.first + i))
  return joined([...digests, [kind.mark(group), 0]])
}

/** Counts the groups that training and validation have in common. */
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

function hashOf<Group extends ResponseGroup>(
  kind: Pick<ResponseKind<never, Group>, 'hashed'>,
  store: TokenStore,
  groups: readonly Group[],
): string {
  const hash = createHash('sha256').update(store.hash)
  for (const group of groups) hash.update(JSON.stringify(kind.hashed(group)))
  return hash.digest('hex')
}
