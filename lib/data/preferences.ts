import { createHash } from 'node:crypto'
import { AbortError, PosttrainError } from '../errors.js'
import { permutation, STREAM } from '../random.js'
import { neverStops } from './dataset.js'
import { type Digest, DigestSet, digest } from './encode/digests.js'
import { type Encoded, RowEncoder } from './encode/encode.js'
import type { EncodedRow } from './encode/mask.js'
import { type DataReport, ReportBuilder } from './encode/report.js'
import { TokenStore } from './encode/token-store.js'
import { type DataSource, readRows, sourcesOf, type Validation } from './formats/read.js'
import { readJudged, readRanking } from './rows/preference-rows.js'
import type { Example, Origin } from './rows/rows.js'
import type { Template } from './text/template.js'
import type { Tokenizer } from './text/tokenizer.js'

/** Answers to one prompt, in the store one after another from `first` on, and what is known of them. */
export interface Judgement {
  first: number
  count: number
  /** Pairs of answers, counted from 0 in this judgement; their weights add up to 1. */
  pairs: { better: number; worse: number; margin: number; weight: number }[]
  /** Of a single answer. */
  desirable: boolean
  origin: string
}

/**
 * What became of the rows. `rows` and `dropped` count answers, but `dropped.badRow` rows; `judgements` counts prompts
 * with answers that are left. `duplicates` and `sharedWithValidation` count prompts with all their answers.
 */
export interface JudgedReport extends DataReport {
  judgements: number
  pairs: number
  /** Pairs that were dropped since a side was: it is too long, or empty. */
  brokenPairs: number
  /** Pairs that were dropped since both sides are the same. */
  identical: number
}

/** Judged answers, encoded. Several sets may look at one store. */
export interface JudgedSet {
  store: TokenStore
  /** Added to the places of the store, so that those of two sets of one run differ. */
  firstPlace: number
  judgements: Judgement[]
  report: JudgedReport
  /** Changes with every id, pair and label, and with which rows are meant. */
  hash: string
}

export interface JudgedOptions {
  tokenizer: Tokenizer
  template: Template
  /** Tokens of prompt and answer at most; nothing is cut, what is longer is dropped and counted. */
  maxLength: number
  onBadRow: 'error' | 'skip'
  validation?: Validation | undefined
  /** Decides which rows a validation fraction takes. */
  seed: number
  signal?: AbortSignal | undefined
}

interface Judged {
  examples: Example[]
  margin: number
  desirable: boolean
  origin: Origin
}

/** Rows handed to the encoder at once. */
const SLICE = 16

/** Reads rankings: `prompt + chosen + rejected`, or `prompt + responses`. */
export async function loadPreferences(source: DataSource, options: JudgedOptions) {
  return await loadJudged(source, options, (row, origin) => {
    const { answers, margin } = readRanking(row, origin)
    return { examples: answers, margin, desirable: false, origin }
  })
}

/** Reads single answers with a `label`. */
export async function loadUnpaired(source: DataSource, options: JudgedOptions) {
  return await loadJudged(source, options, (row, origin) => {
    const { example, desirable } = readJudged(row, origin)
    return { examples: [example], margin: 0, desirable, origin }
  })
}

async function loadJudged(
  source: DataSource,
  options: JudgedOptions,
  read: (row: unknown, origin: Origin) => Judged,
): Promise<{ train: JudgedSet; validation: JudgedSet | null }> {
  const whole = await loadSource(source, options, read)
  try {
    const { validation } = options
    if (validation === undefined) return { train: whole, validation: null }
    if (typeof validation === 'object' && 'fraction' in validation)
      return split(whole, validation.fraction, options)
    const other = await loadSource(validation, options, read)
    return withShared(whole, { ...other, firstPlace: whole.store.length })
  } catch (error) {
    await whole.store.close()
    throw error
  }
}

/** A set while its rows come by. */
interface Loading {
  set: JudgedSet
  builder: ReportBuilder
  counts: Omit<JudgedReport, keyof DataReport>
}

async function loadSource(
  source: DataSource,
  options: JudgedOptions,
  read: (row: unknown, origin: Origin) => Judged,
): Promise<JudgedSet> {
  const encoder = new RowEncoder(options.tokenizer, options.template, {
    maxLength: options.maxLength,
    trainOn: 'assistant',
    overflow: 'drop',
  })
  const builder = new ReportBuilder()
  const counts = { judgements: 0, pairs: 0, brokenPairs: 0, identical: 0 }
  const set: JudgedSet = {
    store: new TokenStore(),
    firstPlace: 0,
    judgements: [],
    report: { ...builder.finish(), ...counts },
    hash: '',
  }
  const loading = { set, builder, counts }
  const refuse = (error: unknown) => {
    if (!(error instanceof PosttrainError) || options.onBadRow === 'error') throw error
    builder.badRow(error.message)
  }
  let slice: Judged[] = []
  const flush = async () => {
    const encoded = slice.length === 0 ? [] : await encoder.encode(slice.flatMap(({ examples }) => examples))
    let at = 0
    for (const judged of slice) {
      const results = encoded.slice(at, at + judged.examples.length)
      at += judged.examples.length
      const failed = results.find((result) => 'error' in result)
      if (failed === undefined) {
        await keep(loading, judged, results as Exclude<Encoded, { error: string }>[])
        continue
      }
      const { source: file, line } = judged.origin
      refuse(new PosttrainError('ERR_DATA', `${file}:${line}: ${failed.error}`))
    }
    slice = []
  }
  try {
    for (const { data, weight } of sourcesOf(source)) {
      if (weight !== 1)
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `judged rows have no source weight, got ${weight}: leave it out`,
        )
      for await (const { row, origin, failure } of readRows(data)) {
        if (options.signal?.aborted) throw new AbortError(options.signal.reason)
        try {
          if (failure) throw failure
          slice.push(read(row, origin))
        } catch (error) {
          refuse(error)
        }
        if (slice.length === SLICE) await flush()
      }
    }
    await flush()
    set.report = { ...builder.finish(), ...counts }
    if (set.judgements.length === 0) throw nothingLeft(set.report, options)
    if (builder.neverStops) throw neverStops(options)
    set.hash = hashOf(set)
    return set
  } catch (error) {
    await set.store.close()
    throw error
  } finally {
    await encoder.close()
  }
}

function nothingLeft({ read, dropped, identical }: JudgedReport, { maxLength }: JudgedOptions) {
  const { badRow, tooLong, noLabels, empty } = dropped
  return new PosttrainError(
    'ERR_DATA',
    `there is nothing to learn from: of ${read} rows ${badRow} are bad, ${tooLong} answers too long (maxLength ${maxLength}), ${noLabels + empty} empty, ${identical} pairs identical`,
  )
}

/** Stores the answers to one prompt that a pair is left of. */
async function keep(
  { set, builder, counts }: Loading,
  { examples, margin, desirable, origin }: Judged,
  encoded: Exclude<Encoded, { error: string }>[],
): Promise<void> {
  builder.read()
  const rows = encoded.map((result): EncodedRow | null => {
    const row = result.rows[0] ?? 'empty'
    if (typeof row !== 'string') return row
    builder.left(row)
    return null
  })
  const pairs: { better: number; worse: number }[] = []
  for (const [better, a] of rows.entries()) {
    for (const [offset, b] of rows.slice(better + 1).entries()) {
      if (a === null || b === null) counts.brokenPairs++
      else if (sameIds(a.inputIds, b.inputIds)) counts.identical++
      else pairs.push({ better, worse: better + 1 + offset })
    }
  }
  const alone = rows.length === 1 && rows[0] !== null
  // An answer that no pair is left of is not computed for nothing.
  const used = rows.flatMap((row, i) =>
    row !== null && (alone || pairs.some(({ better, worse }) => better === i || worse === i)) ? [i] : [],
  )
  if (used.length === 0) return
  const { store } = set
  const first = store.length
  for (const place of used) {
    await store.append(rows[place]!)
    builder.kept(rows[place]!, examples[place]!.kind)
  }
  const judgement: Judgement = {
    first,
    count: used.length,
    pairs: pairs.map(({ better, worse }) => ({
      better: used.indexOf(better),
      worse: used.indexOf(worse),
      margin,
      weight: 1 / pairs.length,
    })),
    desirable,
    origin: `${origin.source}:${origin.line}`,
  }
  builder.content([keyOf(store, judgement)], joined(encoded.map(({ words }) => words)))
  counts.judgements++
  counts.pairs += pairs.length
  set.judgements.push(judgement)
}

const joined = (digests: readonly Digest[]) => digest(digests.join())

/** The same for judgements that have the same answers in the same order. */
function keyOf(store: TokenStore, { first, count, desirable }: Judgement): Digest {
  return joined([
    ...Array.from({ length: count }, (_, i) => store.digestOf(first + i)),
    [Number(desirable), 0],
  ])
}

/** Counts what training and validation have in common. */
function withShared(train: JudgedSet, validation: JudgedSet) {
  const known = new DigestSet()
  for (const judgement of validation.judgements) known.add(keyOf(validation.store, judgement))
  const shared = train.judgements.filter((judgement) => known.has(keyOf(train.store, judgement))).length
  return { train: { ...train, report: { ...train.report, sharedWithValidation: shared } }, validation }
}

const sameIds = (a: Int32Array, b: Int32Array) => a.length === b.length && a.every((id, i) => id === b[i])

function split(whole: JudgedSet, fraction: number, { seed }: JudgedOptions) {
  const total = whole.judgements.length
  const count = Math.round(total * fraction)
  if (!(fraction > 0 && fraction < 1) || count === 0 || count === total) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `a validation fraction of ${fraction} of ${total} rows leaves nothing on one side`,
    )
  }
  const held = new Set(permutation(total, seed, STREAM.validation).subarray(0, count))
  const part = (of: (i: number) => boolean): JudgedSet => {
    const set = { ...whole, judgements: whole.judgements.filter((_, i) => of(i)) }
    return { ...set, hash: hashOf(set) }
  }
  return withShared(
    part((i) => !held.has(i)),
    part((i) => held.has(i)),
  )
}

function hashOf({ store, judgements }: JudgedSet): string {
  const hash = createHash('sha256').update(store.hash)
  for (const { first, count, pairs, desirable } of judgements)
    hash.update(JSON.stringify([first, count, pairs, desirable]))
  return hash.digest('hex')
}
