import { IGNORE_INDEX } from '../addon/training.js'
import { loadDataset } from '../data/dataset.js'
import type { Reasoning } from '../data/encode/reasoning.js'
import type { DataReport } from '../data/encode/report.js'
import type { TokenStore } from '../data/encode/token-store.js'
import type { Documents } from '../data/formats/format.js'
import { loadPreferences, type PreferenceGroup } from '../data/preferences.js'
import { loadPrompts, type PromptReport } from '../data/prompts.js'
import type { ResponseReport } from '../data/responses.js'
import type { Origin } from '../data/rows/fields.js'
import { readPrompt } from '../data/rows/prompt-rows.js'
import { type RowKind, rowKindOf } from '../data/rows/row-kind.js'
import { readRows } from '../data/sources.js'
import { chooseTemplate } from '../data/text/templates.js'
import { Tokenizer } from '../data/text/tokenizer.js'
import { loadUnpaired } from '../data/unpaired.js'

/** State of a token: trained (a label), masked (context), or padding beside longer rows. */
export type TokenState = 'trained' | 'masked' | 'padding'

export interface InspectedRow {
  /** `file:line`. */
  source: string
  /** What it is of its row: `chosen`, `rejected`, `response 1 of 3`, `desirable`, `undesirable` or `prompt`. */
  part?: string
  weight: number
  tokens: { id: number; text: string; state: TokenState }[]
  counts: Record<TokenState, number>
}

export interface InspectOptions {
  model: string
  /** Kind of the rows. Default: that of the first. */
  as?: RowKind
  template?: string
  templateArguments?: Record<string, unknown>
  /** Default: now. */
  templateTime?: string
  reasoning?: Reasoning
  rendered?: boolean
  rows: number
  maxLength: number
  trainOn: 'assistant' | 'lastAssistant' | 'all'
  overflow: 'truncate' | 'drop' | 'error'
  onBadRow: 'error' | 'skip'
  documents?: Documents
}

export interface Inspection {
  kind: RowKind
  /** Whether the first row has a prompt. */
  hasPrompt: boolean
  template: string
  rows: InspectedRow[]
  report: DataReport | ResponseReport | PromptReport
}

/** A row of tokens before padding; without labels, none is trained. */
interface Sequence {
  source: string
  part?: string
  weight: number
  inputIds: Int32Array
  labels?: Int32Array
}

/** The first rows of a file as training sees them, padded to the longest, and the report on all rows. */
export async function inspectData(data: string, options: InspectOptions): Promise<Inspection> {
  const tokenizer = await Tokenizer.load(options.model)
  const chosen = await chooseTemplate(options.template, tokenizer)
  const { strings } = chosen
  const template = chosen.template.with({
    arguments: options.templateArguments,
    now: options.templateTime === undefined ? new Date() : new Date(options.templateTime),
  })
  const { maxLength, trainOn, overflow, onBadRow, documents, reasoning, rendered = false } = options
  const { kind, hasPrompt } = await firstRow(data, options)
  const form = { tokenizer, template, strings, rendered, reasoning }
  const reading = { ...form, maxLength, onBadRow, documents, seed: 0 }
  const shown = (found: { report: Inspection['report']; rows: Sequence[] }): Inspection => ({
    kind,
    hasPrompt,
    template: template.name,
    rows: padded(found.rows, tokenizer),
    report: found.report,
  })
  switch (kind) {
    case 'sft': {
      const { train } = await loadDataset(data, { ...reading, trainOn, overflow, needsStop: false })
      const places = Array.from({ length: Math.min(options.rows, train.store.length) }, (_, i) => i)
      const parts = places.map((place) => ({ place, source: train.originOf(place) }))
      return shown({ report: train.report, rows: await sequences(train.store, parts) })
    }
    case 'preference': {
      const { train } = await loadPreferences(data, { ...reading, apart: true })
      const parts = train.groups.slice(0, options.rows).flatMap(responsesOf)
      return shown({ report: train.report, rows: await sequences(train.store, parts) })
    }
    case 'unpaired': {
      const { train } = await loadUnpaired(data, reading)
      const parts = train.groups.slice(0, options.rows).map(({ first, origin, desirable }) => ({
        place: first,
        source: origin,
        part: desirable ? 'desirable' : 'undesirable',
      }))
      return shown({ report: train.report, rows: await sequences(train.store, parts) })
    }
    case 'prompt': {
      const { items, report } = await loadPrompts(data, {
        ...reading,
        overflow: overflow === 'error' ? 'error' : 'drop',
      })
      const rows = items
        .slice(0, options.rows)
        .map(({ promptIds, origin }) => ({ source: origin, part: 'prompt', weight: 1, inputIds: promptIds }))
      return shown({ report, rows })
    }
    default:
      return kind satisfies never
  }
}

/** What the first row that can be read is, or is read `as`. */
async function firstRow(
  data: string,
  { as, documents }: Pick<InspectOptions, 'as' | 'documents'>,
): Promise<Pick<Inspection, 'kind' | 'hasPrompt'>> {
  for await (const { row, exact = row, origin, failure } of readRows(data, { documents })) {
    if (failure !== undefined) continue
    return { kind: as ?? rowKindOf(exact, origin), hasPrompt: isPrompt(exact, origin) }
  }
  return { kind: as ?? 'sft', hasPrompt: false }
}

function isPrompt(row: unknown, origin: Origin): boolean {
  try {
    readPrompt(row, origin)
    return true
  } catch {
    return false
  }
}

function responsesOf({ first, count, origin: source, pairs }: PreferenceGroup) {
  return Array.from({ length: count }, (_, i) => {
    const ofPair = i === pairs[0]?.chosen ? 'chosen' : 'rejected'
    return { place: first + i, source, part: count === 2 ? ofPair : `response ${i + 1} of ${count}` }
  })
}

async function sequences(
  store: TokenStore,
  parts: readonly { place: number; source: string; part?: string }[],
): Promise<Sequence[]> {
  try {
    return await Promise.all(
      parts.map(async ({ place, ...part }) => ({ ...part, ...(await store.read(place)) })),
    )
  } finally {
    await store.close()
  }
}

function padded(rows: readonly Sequence[], tokenizer: Tokenizer): InspectedRow[] {
  const padId = tokenizer.padId ?? tokenizer.eosId ?? 0
  const columns = rows.reduce((most, { inputIds }) => Math.max(most, inputIds.length), 0)
  return rows.map(({ inputIds, labels, source, part, weight }) => {
    const counts: Record<TokenState, number> = { trained: 0, masked: 0, padding: 0 }
    const tokens = Array.from({ length: columns }, (_, t) => {
      const isTrained = labels !== undefined && labels[t] !== IGNORE_INDEX
      const state = t >= inputIds.length ? 'padding' : isTrained ? 'trained' : 'masked'
      const id = inputIds[t] ?? padId
      counts[state]++
      return { id, text: tokenizer.decode([id], { skipSpecialTokens: false }), state } as const
    })
    return { source, ...(part !== undefined && { part }), weight, tokens, counts }
  })
}
