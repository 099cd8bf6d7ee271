import { createHash } from 'node:crypto'
import { AbortError, PosttrainError } from '../errors.js'
import { STREAM } from './dataset.js'
import { RowEncoder } from './encode.js'
import { readJudged, readRanking } from './judged-rows.js'
import type { EncodedRow } from './mask.js'
import { permutation } from './random.js'
import { type DataSource, readRows, sourcesOf, type Validation } from './read.js'
import type { DataReport } from './report.js'
import type { Example, Origin } from './rows.js'
import type { Template } from './template.js'
import { TokenStore } from './token-store.js'
import type { Tokenizer } from './tokenizer.js'

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

/** What became of the rows. `rows` counts answers, `judgements` prompts with answers that are left. */
export interface JudgedReport extends DataReport {
  judgements: number
  pairs: number
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
    return { train: whole, validation: { ...other, firstPlace: whole.store.length } }
  } catch (error) {
    await whole.store.close()
    throw error
  }
}

async function loadSource(
  source: DataSource,
  options: JudgedOptions,
  read: (row: unknown, origin: Origin) => Judged,
): Promise<JudgedSet> {
  const encoder = new RowEncoder(options.tokenizer, options.template, {
    maxLength: options.maxLength,
    trainOn: 'lastAssistant',
    overflow: 'drop',
  })
  const set: JudgedSet = {
    store: new TokenStore(),
    firstPlace: 0,
    judgements: [],
    report: emptyReport(),
    hash: '',
  }
  const lengths: number[] = []
  const { report } = set
  const refuse = (error: unknown) => {
    if (!(error instanceof PosttrainError) || options.onBadRow === 'error') throw error
    report.dropped.badRow++
    report.firstBadRow ??= error.message
  }
  let slice: Judged[] = []
  const flush = async () => {
    const encoded = slice.length === 0 ? [] : await encoder.encode(slice.flatMap(({ examples }) => examples))
    let at = 0
    for (const judged of slice) {
      const results = encoded.slice(at, at + judged.examples.length)
      at += judged.examples.length
      const failed = results.find((result) => 'error' in result)
      if (failed && 'error' in failed) {
        refuse(
          new PosttrainError('ERR_DATA', `${judged.origin.source}:${judged.origin.line}: ${failed.error}`),
        )
        continue
      }
      await keep(
        set,
        judged,
        results.map((result) => ('rows' in result ? result.rows[0]! : 'empty')),
        lengths,
      )
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
        report.read++
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
    if (set.judgements.length === 0) {
      const { badRow, tooLong, noLabels, empty } = report.dropped
      throw new PosttrainError(
        'ERR_DATA',
        `there is nothing to learn from: of ${report.read} rows ${badRow} are bad, ${tooLong} answers too long (maxLength ${options.maxLength}), ${noLabels + empty} empty, ${report.identical} pairs identical`,
      )
    }
    finish(report, lengths)
    set.hash = hashOf(set)
    return set
  } catch (error) {
    await set.store.close()
    throw error
  } finally {
    await encoder.close()
  }
}

async function keep(
  set: JudgedSet,
  { margin, desirable, origin }: Judged,
  rows: (EncodedRow | string)[],
  lengths: number[],
): Promise<void> {
  const { report, store } = set
  const kept: EncodedRow[] = []
  const placeOf = rows.map((row) => {
    if (typeof row === 'string') {
      report.dropped[row as keyof typeof report.dropped]++
      return -1
    }
    return kept.push(row) - 1
  })
  const pairs: Judgement['pairs'] = []
  for (let better = 0; better < rows.length; better++) {
    for (let worse = better + 1; worse < rows.length; worse++) {
      const [a, b] = [placeOf[better]!, placeOf[worse]!]
      if (a < 0 || b < 0) continue
      if (sameIds(kept[a]!.inputIds, kept[b]!.inputIds)) {
        report.identical++
        continue
      }
      pairs.push({ better: a, worse: b, margin, weight: 1 })
    }
  }
  if (rows.length > 1 ? pairs.length === 0 : kept.length === 0) return
  // An answer that no pair is left of is not computed for nothing.
  const used =
    rows.length === 1
      ? [0]
      : [...new Set(pairs.flatMap(({ better, worse }) => [better, worse]))].sort((a, b) => a - b)
  const first = store.length
  for (const place of used) {
    const row = kept[place]!
    await store.append(row)
    lengths.push(row.inputIds.length)
    report.rows++
    report.tokens += row.inputIds.length
    for (const label of row.labels) if (label !== -100) report.trainTokens++
    report.emptyOutputs += Number(row.emptyOutput)
    report.doubleBos += Number(row.doubleBos)
    report.jointDiffers += Number(row.jointDiffers)
    report.withoutStop += Number(!row.stops)
  }
  report.judgements++
  report.pairs += pairs.length
  set.judgements.push({
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
  })
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
  return { train: part((i) => !held.has(i)), validation: part((i) => held.has(i)) }
}

function hashOf({ store, judgements }: JudgedSet): string {
  const hash = createHash('sha256').update(store.hash)
  for (const { first, count, pairs, desirable } of judgements)
    hash.update(JSON.stringify([first, count, pairs, desirable]))
  return hash.digest('hex')
}

function emptyReport(): JudgedReport {
  return {
    read: 0,
    rows: 0,
    judgements: 0,
    pairs: 0,
    identical: 0,
    dropped: { badRow: 0, tooLong: 0, noLabels: 0, empty: 0 },
    truncated: 0,
    tokens: 0,
    trainTokens: 0,
    length: { min: 0, median: 0, p90: 0, p99: 0, max: 0 },
    duplicates: { exact: 0, near: 0 },
    sharedWithValidation: 0,
    emptyOutputs: 0,
    doubleBos: 0,
    withoutStop: 0,
    jointDiffers: 0,
    firstBadRow: null,
  }
}

function finish(report: JudgedReport, lengths: number[]): void {
  lengths.sort((a, b) => a - b)
  const at = (q: number) => lengths[Math.min(lengths.length - 1, Math.floor(q * lengths.length))] ?? 0
  report.length = { min: at(0), median: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
}
