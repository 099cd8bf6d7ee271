import { Worker } from 'node:worker_threads'
import { PosttrainError } from '../errors.js'
import { type Dropped, type EncodedRow, type EncodeOptions, encodeRow, encodeText } from './mask.js'
import type { Example } from './rows.js'
import { Template } from './template.js'
import { Tokenizer, type TokenizerFiles } from './tokenizer.js'

/** All that encoding needs, as data: it crosses to the worker. */
export interface EncoderSpec {
  files: TokenizerFiles
  template: { source: string; name: string }
  options: EncodeOptions
}

/** What became of an example: its rows, or why there are none, or the error it caused. */
export type Encoded = (EncodedRow | Dropped)[] | { error: string }

export interface EncodeRequest {
  id: number
  examples: Example[]
}

/** Encodes one after another; an example's own fault is returned, not thrown. */
export function encodeAll(
  examples: readonly Example[],
  tokenizer: Tokenizer,
  template: Template,
  options: EncodeOptions,
): Encoded[] {
  return examples.map((example) => {
    try {
      return example.kind === 'text'
        ? encodeText(example, tokenizer, options)
        : [encodeRow(example, tokenizer, template, options)]
    } catch (error) {
      if (error instanceof PosttrainError && error.code === 'ERR_DATA') return { error: error.message }
      throw error
    }
  })
}

/** Text below this is encoded here, a few rows at a time; a worker would take longer to start. */
const INLINE_CHARACTERS = 200_000
const INLINE_SLICE = 8

function sizeOf(example: Example): number {
  switch (example.kind) {
    case 'text':
      return example.text.length
    case 'completion':
      return example.prompt.length + example.completion.length
    case 'messages':
      return example.messages.reduce((sum, { content }) => sum + content.length, 0)
    default:
      return example satisfies never
  }
}

/** Encodes without keeping the event loop: small data in slices, the rest in a worker thread. */
export class RowEncoder {
  readonly #tokenizer: Tokenizer
  readonly #template: Template
  readonly #options: EncodeOptions
  readonly #waiting = new Map<
    number,
    { resolve: (rows: Encoded[]) => void; reject: (error: unknown) => void }
  >()
  #worker: Worker | null = null
  #characters = 0
  #next = 0

  constructor(tokenizer: Tokenizer, template: Template, options: EncodeOptions) {
    this.#tokenizer = tokenizer
    this.#template = template
    this.#options = options
  }

  async encode(examples: Example[]): Promise<Encoded[]> {
    this.#characters += examples.reduce((sum, example) => sum + sizeOf(example), 0)
    if (this.#worker === null && this.#characters <= INLINE_CHARACTERS) {
      const results: Encoded[] = []
      for (let from = 0; from < examples.length; from += INLINE_SLICE) {
        const slice = examples.slice(from, from + INLINE_SLICE)
        results.push(...encodeAll(slice, this.#tokenizer, this.#template, this.#options))
        await new Promise((resolve) => setImmediate(resolve))
      }
      return results
    }
    const worker = this.#start()
    const id = this.#next++
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      worker.postMessage({ id, examples } satisfies EncodeRequest)
    })
  }

  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = null
    await worker?.terminate()
  }

  #start(): Worker {
    if (this.#worker !== null) return this.#worker
    const spec: EncoderSpec = {
      files: this.#tokenizer.files,
      template: { source: this.#template.source, name: this.#template.name },
      options: this.#options,
    }
    const worker = new Worker(new URL('./encode-worker.js', import.meta.url), {
      workerData: spec,
      execArgv: [],
    })
    worker.unref()
    const fail = (error: unknown) => {
      for (const { reject } of this.#waiting.values()) reject(error)
      this.#waiting.clear()
    }
    worker.on('message', ({ id, results, error }: { id: number; results?: Encoded[]; error?: string }) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (this.#waiting.size === 0) worker.unref()
      if (results !== undefined) waiting?.resolve(results)
      else waiting?.reject(new PosttrainError('ERR_INTERNAL', `encoding failed: ${error}`))
    })
    worker.on('error', fail)
    worker.on('exit', () => fail(new PosttrainError('ERR_INTERNAL', 'the encoding thread ended')))
    this.#worker = worker
    return worker
  }
}

/** The tokenizer and template of a spec, in the worker. */
export function encoderOf(spec: EncoderSpec): (examples: Example[]) => Encoded[] {
  const tokenizer = Tokenizer.fromFiles(spec.files)
  const template = Template.fromSource(spec.template.source, spec.template.name)
  return (examples) => encodeAll(examples, tokenizer, template, spec.options)
}
