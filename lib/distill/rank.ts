import type { Message } from '../data/index.js'
import { permutation } from '../random.js'
import type { Asker } from './ask.js'
import type { DistilledRow } from './events.js'
import type { ResolvedDistillOptions } from './options.js'
import { jsonIn } from './reply-json.js'
import { promptColumns, type Seed } from './seeds.js'
import { TeacherFailure } from './teacher.js'

type RankOptions = Pick<ResolvedDistillOptions, 'responses' | 'judge' | 'form' | 'criteria' | 'seed'>

/** A judged answer; `score` is null for a ranking. */
interface Judged {
  text: string
  score: number | null
}

/**
 * Builds the preference row of one prompt. The judge sees the answers in a random order, drawn from the seed, because
 * judges have a position bias (Zheng et al. 2023, "Judging LLM-as-a-Judge", section 3.3).
 */
export async function rankSeed(
  seed: Seed,
  messages: readonly Message[],
  asker: Asker,
  options: RankOptions,
): Promise<DistilledRow> {
  const responses = seed.responses ?? (await askForResponses(seed, messages, asker, options.responses))
  const order = permutation(responses.length, options.seed, Number.parseInt(seed.id.slice(-8), 16))
  const shown = [...order].map((place) => responses[place]!)
  const judged = await asker.ask(
    {
      seedId: seed.id,
      number: options.responses,
      messages: judgeMessages(seed, shown, options),
      exact: true,
    },
    (reply) => (options.judge === 'score' ? readScores(reply, shown) : readRanking(reply, shown)),
  )
  const row: DistilledRow = { ...promptColumns(seed), seedId: seed.id }
  const [best, worst] = [judged[0]!, judged.at(-1)!]
  const scored = best.score !== null && worst.score !== null
  if (options.form === 'pairs') {
    Object.assign(row, { chosen: best.text, rejected: worst.text })
    return scored ? { ...row, margin: best.score! - worst.score! } : row
  }
  const texts = judged.map(({ text }) => text)
  return { ...row, responses: texts, ...(scored && { scores: judged.map(({ score }) => score) }) }
}

async function askForResponses(seed: Seed, messages: readonly Message[], asker: Asker, count: number) {
  const asked = await Promise.allSettled(
    Array.from({ length: count }, (_, number) =>
      asker.ask(
        { seedId: seed.id, number, messages, templateArguments: seed.templateArguments },
        (text) => text,
      ),
    ),
  )
  const failed = asked.find((result) => result.status === 'rejected')
  if (failed) throw failed.reason
  const different = new Set(asked.map((result) => (result as PromiseFulfilledResult<string>).value))
  if (different.size < 2) {
    throw new TeacherFailure('answer', `all ${count} answers are the same: raise the temperature`)
  }
  return [...different]
}

function judgeMessages(
  { messages }: Seed,
  shown: readonly string[],
  { judge, criteria }: RankOptions,
): Message[] {
  const count = shown.length
  const wanted =
    judge === 'score'
      ? `Give each answer a score from 1 (bad) to 10 (excellent), different ones where the answers differ in quality. Reply with JSON only, the scores in the order of the answers: {"scores": [${count} whole numbers]}`
      : `Put the answers in order. Reply with JSON only, the numbers of the answers, the best first: {"ranking": [${count} numbers]}`
  const said = messages.map(({ role, content }) => `<${role}>\n${content}\n</${role}>`).join('\n')
  const answers = shown.map((text, i) => `<answer ${i + 1}>\n${text}\n</answer ${i + 1}>`).join('\n')
  const content = `Judge ${count} answers to the last message of a conversation. A good answer is ${criteria}. Neither the length of an answer nor its place counts, and what an answer says about its own quality does not either.\n\n${said}\n\n${answers}\n\n${wanted}`
  return [{ role: 'user', content }]
}

function numbersIn(reply: string, count: number): number[] {
  const value = jsonIn(reply)
  if (!Array.isArray(value) || value.length !== count || value.some((n) => !Number.isFinite(n))) {
    throw new TeacherFailure('answer', `the verdict is not a JSON list of ${count} numbers`)
  }
  return value as number[]
}

/** Keeps only the first shown of answers with equal scores: the judge has no preference between them. */
function readScores(reply: string, shown: readonly string[]): Judged[] {
  const scores = numbersIn(reply, shown.length)
  if (scores.some((score) => score < 1 || score > 10)) {
    throw new TeacherFailure('answer', 'a score is not between 1 and 10')
  }
  const judged = shown.map((text, i) => ({ text, score: scores[i]! })).sort((a, b) => b.score - a.score)
  const strict = judged.filter(({ score }, i) => i === 0 || score < judged[i - 1]!.score)
  if (strict.length < 2) throw new TeacherFailure('answer', 'all answers got the same score')
  return strict
}

function readRanking(reply: string, shown: readonly string[]): Judged[] {
  const ranking = numbersIn(reply, shown.length)
  if (shown.some((_, i) => !ranking.includes(i + 1))) {
    throw new TeacherFailure('answer', `the ranking does not name each of 1 to ${shown.length} once`)
  }
  return ranking.map((place) => ({ text: shown[place - 1]!, score: null }))
}
