import { execFile, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const script = fileURLToPath(new URL('../../../scripts/dev/checks/peft-check.py', import.meta.url))
const python = process.env.POSTTRAIN_PYTHON ?? 'python3'
let installed: boolean | undefined

/** To be logged where `peftCheck` gives null. */
export const NO_PEFT = 'skipped: python3 (or POSTTRAIN_PYTHON) has no peft'

interface Language {
  /** Every logit of each text. */
  logits: number[][]
  /** Eight ids after each text. */
  greedy: number[][]
  /** Values in the adapter. */
  parameters: number
}

interface Scores {
  scores: number[]
  /** The same texts as one batch, padded on the right; null where the model has no pad token. */
  padded: number[] | null
}

/** What PEFT makes of several adapters, in one process; null where it is not installed. */
export async function peftChecks(
  of: readonly { base: string; adapter: string; texts: number[][] }[],
): Promise<Language[] | null> {
  installed ??= spawnSync(python, ['-c', 'import torch, transformers, peft']).status === 0
  if (!installed) return null
  const { stdout } = await promisify(execFile)(python, [script, '--all', JSON.stringify(of)], {
    maxBuffer: 1e9,
  })
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Language[]
}

/** What PEFT and transformers make of saved folders (scripts/dev/checks/peft-check.py); null where they are not installed. */
export async function peftCheck(
  of: { base: string; adapter: string },
  texts: number[][],
): Promise<Language | null>
export async function peftCheck(
  of: { score: string; adapter?: string },
  texts: number[][],
): Promise<Scores | null>
export async function peftCheck(
  of: { base?: string; score?: string; adapter?: string },
  texts: number[][],
): Promise<Language | Scores | null> {
  installed ??= spawnSync(python, ['-c', 'import torch, transformers, peft']).status === 0
  if (!installed) return null
  const folders = [of.base ?? of.score!, ...(of.adapter === undefined ? [] : [of.adapter])]
  const argv = [script, ...(of.score === undefined ? [] : ['--score']), ...folders, JSON.stringify(texts)]
  const { stdout } = await promisify(execFile)(python, argv, { maxBuffer: 1e8 })
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Language | Scores
}
