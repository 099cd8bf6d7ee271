import { createReadStream } from 'node:fs'
import { open, rename, stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { Readable } from 'node:stream'
import { PosttrainError } from '../../errors.js'
import { isHubFile } from '../../files/hub/id.js'
import type { JudgedRow, PreferenceRow, RankingRow } from '../rows/preference-rows.js'
import type { Message, Origin, Row } from '../rows/rows.js'

/** A prompt to be answered in a rollout; any other kind of row is one too, its answer left out. */
interface PromptOnlyRow {
  prompt: string | Message[]
  [column: string]: unknown
}

/** A row of any kind. */
export type AnyRow = Row | PreferenceRow | RankingRow | JudgedRow | PromptOnlyRow | { instruction: string }

/** Rows: the path of a .jsonl, .json or .txt file or its address on the Hub (hf://datasets/org/name/file.jsonl), a list, or anything that gives rows one after another. */
export type RowSource = string | readonly AnyRow[] | AsyncIterable<AnyRow>

/** One source, or several: each gives `weight` times its rows to every epoch, so 0.2 gives another fifth each time. */
export type DataSource = RowSource | readonly WeightedSource[]

export interface WeightedSource {
  data: RowSource
  weight: number
}

/** Rows for the validation loss: some of the data, or a source of their own. */
export type Validation = { fraction: number } | RowSource

function isWeighted(item: unknown): item is WeightedSource {
  if (typeof item !== 'object' || item === null || !('data' in item) || !('weight' in item)) return false
  return (
    typeof item.data === 'string' ||
    Array.isArray(item.data) ||
    (typeof item.data === 'object' && item.data !== null)
  )
}

/** The sources of a DataSource, each with its weight. */
export function sourcesOf(source: DataSource): WeightedSource[] {
  if (Array.isArray(source) && source.length > 0 && source.every(isWeighted)) {
    for (const { weight } of source as WeightedSource[]) {
      if (!(weight > 0 && Number.isFinite(weight))) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `the weight of a data source must be above 0, got ${weight}`,
        )
      }
    }
    return [...(source as WeightedSource[])]
  }
  return [{ data: source as RowSource, weight: 1 }]
}

/** The rows of a source in order, as they stand; memory does not grow with the file. A bad line ends it with ERR_DATA. */
export async function* readRows(
  source: RowSource,
): AsyncGenerator<{ row: unknown; origin: Origin; failure?: PosttrainError }> {
  if (typeof source !== 'string') {
    let line = 0
    for await (const row of source) yield { row, origin: { source: 'rows', line: ++line } }
    return
  }
  const kind = extname(source).toLowerCase()
  if (!['.jsonl', '.ndjson', '.json', '.txt'].includes(kind)) {
    throw new PosttrainError('ERR_DATA', `${source}: data files must end in .jsonl, .json or .txt`)
  }
  if (!isHubFile(source)) return yield* readRowFile(source, kind)
  const { hubFile } = await import('../../files/hub/snapshot.js')
  yield* readRowFile(await hubFile(source), kind)
}

async function* readRowFile(
  source: string,
  kind: string,
): AsyncGenerator<{ row: unknown; origin: Origin; failure?: PosttrainError }> {
  const found = await stat(source).catch((cause: unknown) => {
    throw new PosttrainError('ERR_DATA', `${source} does not exist or cannot be read`, { cause })
  })
  if (!found.isFile()) throw new PosttrainError('ERR_DATA', `${source} is not a file`)
  if (kind === '.json') yield* readJson(source)
  else if (kind === '.txt') yield* readText(source)
  else yield* readLines(source)
}

/** Characters of one line at most: a file without line ends is no file of rows. */
const MAX_LINE_BYTES = 256 * 2 ** 20

/**
 * Lines of a file, from 1, without their ends; `null` where a line is not UTF-8. (Node's readline loses the errors of
 * the stream below it, and puts U+FFFD where bytes are no UTF-8.)
 */
async function* linesOf(path: string): AsyncGenerator<{ line: string | null; number: number }> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let rest: Buffer[] = []
  let size = 0
  let number = 0
  const take = (last: Buffer): { line: string | null; number: number } => {
    const bytes = rest.length === 0 ? last : Buffer.concat([...rest, last])
    rest = []
    size = 0
    number++
    try {
      return { line: decoder.decode(bytes).replace(/\r$/, ''), number }
    } catch {
      return { line: null, number }
    }
  }
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let from = 0
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        yield take(chunk.subarray(from, at))
        from = at + 1
      }
      rest.push(chunk.subarray(from))
      size += chunk.length - from
      if (size > MAX_LINE_BYTES) {
        throw new PosttrainError('ERR_DATA', `${path}:${number + 1}: the line is longer than 256 MiB`)
      }
    }
  } catch (cause) {
    if (cause instanceof PosttrainError) throw cause
    throw new PosttrainError('ERR_DATA', `${path} cannot be read: ${(cause as Error).message}`, { cause })
  }
  if (size > 0) yield take(Buffer.alloc(0))
}

function notUtf8(path: string, number: number): PosttrainError {
  return new PosttrainError('ERR_DATA', `${path}:${number}: the line is not UTF-8: convert the file to UTF-8`)
}

async function* readLines(path: string) {
  for await (const { line, number } of linesOf(path)) {
    if (line?.trim() === '') continue
    const origin = { source: path, line: number }
    if (line === null) {
      yield { row: undefined, origin, failure: notUtf8(path, number) }
      continue
    }
    let row: unknown
    try {
      row = JSON.parse(line)
    } catch (cause) {
      const failure = new PosttrainError(
        'ERR_DATA',
        `${path}:${number}: the line is not valid JSON: ${(cause as Error).message}`,
        { cause },
      )
      yield { row: undefined, origin, failure }
      continue
    }
    yield { row, origin }
  }
}

/** Text of a file piece by piece; throws where bytes are no UTF-8. */
async function* decoded(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const decode = (bytes?: Uint8Array) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined })
    } catch {
      throw new Error('it is not UTF-8: convert the file to UTF-8')
    }
  }
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    yield decode(chunk)
  }
  yield decode()
}

async function* readJson(path: string) {
  const { streamArray } = await import('stream-json/streamers/stream-array.js')
  const parsed = streamArray.withParserAsStream()
  const input = Readable.from(decoded(path))
  input.on('error', (error) => parsed.destroy(error))
  input.pipe(parsed)
  try {
    for await (const { key, value } of parsed as AsyncIterable<{ key: number; value: unknown }>) {
      yield { row: value, origin: { source: path, line: key + 1 } }
    }
  } catch (cause) {
    throw new PosttrainError('ERR_DATA', `${path}: not a JSON list of rows: ${(cause as Error).message}`, {
      cause,
    })
  } finally {
    input.destroy()
  }
}

/** Plain text: documents stand apart by empty lines. */
async function* readText(path: string) {
  let document: string[] = []
  let first = 1
  for await (const { line, number } of linesOf(path)) {
    if (line === null) throw notUtf8(path, number)
    if (line.trim() !== '') {
      if (document.length === 0) first = number
      document.push(line)
    } else if (document.length > 0) {
      yield { row: { text: document.join('\n') }, origin: { source: path, line: first } }
      document = []
    }
  }
  if (document.length > 0) yield { row: { text: document.join('\n') }, origin: { source: path, line: first } }
}

/**
 * Writes rows into a .jsonl file, synced: what a run keeps of an async iterable, to be read again when it resumes.
 * The file is whole or absent.
 */
export async function spoolRows(
  source: AsyncIterable<AnyRow> | Iterable<AnyRow>,
  path: string,
): Promise<void> {
  const partial = `${path}.partial`
  const file = await open(partial, 'w')
  try {
    for await (const row of source) await file.write(`${JSON.stringify(row)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(partial, path)
}
