import type { Message } from '../data/index.js'
import { permutation, STREAM } from '../random.js'
import { jsonIn } from './reply-json.js'
import type { Instruction } from './seeds.js'
import { TeacherFailure } from './teacher.js'

/** Largest share of examples written by the teacher itself. */
const OWN_PART = 0.25

/**
 * Chooses the examples of one round: mostly seeds, so that new instructions do not drift away from them (Wang et al.
 * 2023, "Self-Instruct", section 2.2: six seeds and two of the model's own).
 */
export function chooseExamples(
  seeds: readonly Instruction[],
  written: readonly Instruction[],
  options: { count: number; seed: number; round: number },
): Instruction[] {
  const { count, seed, round } = options
  const own = Math.min(written.length, Math.floor(count * OWN_PART))
  const draw = (from: readonly Instruction[], size: number, stream: number) =>
    [...permutation(from.length, seed, stream).subarray(0, size)].map((place) => from[place]!)
  const stream = STREAM.distillExamples + 2 * round
  return [...draw(seeds, count - own, stream), ...draw(written, own, stream + 1)]
}

export function proposalMessages(examples: readonly Instruction[], count: number): Message[] {
  const shown = examples.map(({ instruction, input }) => JSON.stringify({ instruction, input })).join('\n')
  const content = `These are tasks for an assistant:\n\n${shown}\n\nWrite ${count} new tasks for it, in the language of these. Each must differ from all others in its subject and in what is to be done, must be answerable with text alone, and must hold in "input" whatever text it works on ("" where it needs none). Reply with JSON only: a list of ${count} objects {"instruction": "...", "input": "..."}.`
  return [{ role: 'user', content }]
}

/** Reads the new instructions of an answer; throws a TeacherFailure if it has no list of them. */
export function readProposals(reply: string): Instruction[] {
  const value = jsonIn(reply)
  const read = (item: unknown): Instruction | null => {
    const { instruction, input = '' } = (typeof item === 'string' ? { instruction: item } : (item ?? {})) as {
      instruction?: unknown
      input?: unknown
    }
    if (typeof instruction !== 'string' || instruction.trim() === '') return null
    return typeof input === 'string' ? { instruction: instruction.trim(), input: input.trim() } : null
  }
  const proposals = Array.isArray(value) ? value.map(read) : []
  if (proposals.length === 0 || proposals.includes(null)) {
    throw new TeacherFailure('answer', 'the new instructions are not a JSON list of { instruction, input }')
  }
  return proposals as Instruction[]
}
