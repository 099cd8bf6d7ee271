import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { PackedBatch } from '../../lib/index.js'

/** A path under test/fixtures, from the compiled tests too. */
export function fixture(...parts: string[]): string {
  return fileURLToPath(new URL(`../../../test/fixtures/${parts.join('/')}`, import.meta.url))
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T
}

/** The float32 tensors of a safetensors file, read without the library under test. */
export function readTensors(path: string): Map<string, { shape: number[]; values: Float32Array }> {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  const result = new Map<string, { shape: number[]; values: Float32Array }>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    if (entry.dtype !== 'F32') throw new Error(`${name} is ${entry.dtype}`)
    const [from, to] = entry.data_offsets
    const copy = new Uint8Array(bytes.subarray(8 + length + from, 8 + length + to))
    result.set(name, { shape: entry.shape, values: new Float32Array(copy.buffer) })
  }
  return result
}

/** What expected.json beside a model says. */
export interface Expected {
  documents: number[][]
  labels: number[][]
  loss: number
  count: number
  /** By name: norm of the true gradient, and of transformers' own float32 error. */
  gradients: Record<string, [number, number]>
  losses: number[]
  gradNorms: number[]
  prompts: number[][]
  continuations: number[][]
  optimizer: { learningRate: number; weightDecay: number; maxGradNorm: number; steps: number }
}

/** Documents one behind the other. */
export function packed({ documents, labels }: Pick<Expected, 'documents' | 'labels'>): PackedBatch {
  return { ...packedTexts(documents), labels: Int32Array.from(labels.flat()) }
}

/** Texts one behind the other, without labels. */
export function packedTexts(texts: number[][]): PackedBatch {
  const offsets = [0]
  for (const text of texts) offsets.push(offsets.at(-1)! + text.length)
  return { inputIds: Int32Array.from(texts.flat()), offsets: Int32Array.from(offsets) }
}
