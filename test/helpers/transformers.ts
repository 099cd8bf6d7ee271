import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { runChild } from './child.js'

const script = fileURLToPath(new URL('../../../scripts/dev/checks/transformers-check.py', import.meta.url))
const python = process.env.POSTTRAIN_PYTHON ?? 'python3'
let installed: boolean | undefined

interface Question {
  prompts: Int32Array[]
  answers: Int32Array[]
  maxNewTokens: number
  messages: { role: string; content: string }[]
}

interface Answer {
  equal: number
  of: number
  dtype: string
  chat: number[] | null
}

/** What transformers says of a model folder (scripts/dev/checks/transformers-check.py); null where it is not installed. */
export async function transformersCheck(folder: string, question: Question): Promise<Answer | null> {
  installed ??= spawnSync(python, ['-c', 'import torch, transformers']).status === 0
  if (!installed) return null
  const { prompts, answers, ...rest } = question
  const lists = (arrays: Int32Array[]) => arrays.map((ids) => [...ids])
  const input = JSON.stringify({ ...rest, prompts: lists(prompts), answers: lists(answers) })
  const { code, stdout, stderr } = await runChild(python, [script, folder], { input })
  if (code !== 0) throw new Error(`transformers-check.py failed: ${stderr.slice(-2000)}`)
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Answer
}
