import { shorten } from '../arguments.js'
import type { Message } from '../data/index.js'
import type { Asker } from './ask.js'
import type { DistilledRow } from './events.js'
import { chooseExamples, proposalMessages, readProposals } from './extend.js'
import type { ResolvedDistillOptions } from './options.js'
import { rankSeed } from './rank.js'
import type { DistillControl } from './run.js'
import { answerRow, type Instruction, instructionOf, type Seed, seedId } from './seeds.js'
import { KnownTexts } from './similarity.js'
import { TeacherFailure } from './teacher.js'

/** Work for one seed, or for one round of new instructions. */
export interface Task {
  seedId: string
  /** Origin for messages: `file:line`, or the round. */
  origin: string
  work: () => Promise<void>
}

export interface Tasks {
  /** Rows of the output file when all tasks are done. */
  total: number
  /** Next task to start; null if there is none now. */
  next: () => Task | null
}

export interface Context {
  options: ResolvedDistillOptions
  seeds: readonly Seed[]
  /** Rows already in the output file. */
  rows: readonly DistilledRow[]
  asker: Asker
  control: DistillControl
  /** Resolves when the row is synced. */
  write: (row: DistilledRow) => Promise<void>
  /** Counts and reports a failure; throws after too many in a row. */
  failed: (task: Pick<Task, 'seedId' | 'origin'>, failure: TeacherFailure) => void
}

/** Tasks of modes answer and rank: one row for each seed without one. */
export function eachSeed({ options, seeds, rows, asker, write }: Context): Tasks {
  const finished = new Set(rows.map((row) => row.seedId))
  const left = seeds.filter(({ id }) => !finished.has(id))
  let at = 0
  const next = (): Task | null => {
    const seed = left[at++]
    if (seed === undefined) return null
    const messages = withSystem(seed.messages, options.systemPrompt)
    const asked = { seedId: seed.id, messages, templateArguments: seed.templateArguments }
    const work = async () => {
      const row =
        options.mode === 'rank'
          ? await rankSeed(seed, messages, asker, options)
          : answerRow(seed, await asker.ask(asked, (text) => text))
      await write(row)
    }
    return { seedId: seed.id, origin: seed.origin, work }
  }
  return { total: rows.length + left.length, next }
}

/** Tasks of mode extend: rounds that ask for new instructions, then for their answers, until there are enough. */
export function extending(context: Context): Tasks {
  const { options, seeds, rows, asker, control } = context
  const wanted = options.count ?? seeds.length
  const given = seeds.map(instructionOf)
  const own = rows.map(({ instruction, input }) => ({
    instruction: String(instruction),
    input: typeof input === 'string' ? input : '',
  }))
  const known = new KnownTexts(options.similarity)
  for (const instruction of [...given, ...own]) known.add(textOf(instruction))
  // A resumed run shows other examples than the interrupted one.
  let round = Math.max(0, ...rows.map((row) => Number.parseInt(row.seedId.slice('extend-'.length), 10)))
  // Rows written or in progress, and instructions expected from running rounds.
  let taken = rows.length
  let expected = 0

  const propose = async (number: number, id: string): Promise<Instruction[]> => {
    const examples = chooseExamples(given, own, {
      count: options.examples,
      seed: options.seed,
      round: number,
    })
    const messages = proposalMessages(examples, options.proposals)
    const proposals = await asker.ask({ seedId: id, messages }, readProposals)
    const fresh: Instruction[] = []
    for (const proposal of proposals) {
      if (taken + fresh.length >= wanted) break
      const text = textOf(proposal)
      const found = known.find(text)
      if (found) {
        control.duplicates++
        control.emit({ type: 'duplicate', instruction: text, ...found })
      } else {
        known.add(text)
        fresh.push(proposal)
      }
    }
    taken += fresh.length
    return fresh
  }

  const answer = async (number: number, proposal: Instruction): Promise<void> => {
    const { instruction, input } = proposal
    const id = seedId(`extend-${number}`, proposal)
    try {
      const messages = withSystem([{ role: 'user', content: textOf(proposal) }], options.systemPrompt)
      const output = await asker.ask({ seedId: id, messages }, (text) => text)
      await context.write({ instruction, ...(input !== '' && { input }), output, seedId: id })
      own.push(proposal)
    } catch (error) {
      taken--
      if (!(error instanceof TeacherFailure)) throw error
      context.failed({ seedId: id, origin: `round ${number}, ${shorten(instruction, 100)}` }, error)
    }
  }

  const next = (): Task | null => {
    if (taken + expected >= wanted) return null
    const number = ++round
    const id = seedId('extend', ['round', number])
    expected += options.proposals
    const work = async () => {
      const fresh = await propose(number, id).finally(() => {
        expected -= options.proposals
        control.wake()
      })
      if (fresh.length === 0 && taken < wanted) {
        throw new TeacherFailure('answer', 'all new instructions are too similar to existing ones')
      }
      const answers = await Promise.allSettled(fresh.map((proposal) => answer(number, proposal)))
      const broken = answers.find((result) => result.status === 'rejected')
      if (broken) throw broken.reason
    }
    return { seedId: id, origin: `round ${number}`, work }
  }
  return { total: Math.max(wanted, rows.length), next }
}

function textOf({ instruction, input }: Instruction): string {
  return input === '' ? instruction : `${instruction}\n${input}`
}

function withSystem(messages: readonly Message[], systemPrompt: string | undefined): readonly Message[] {
  return systemPrompt === undefined || messages[0]?.role === 'system'
    ? messages
    : [{ role: 'system', content: systemPrompt }, ...messages]
}
