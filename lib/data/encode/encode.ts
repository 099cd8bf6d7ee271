import { Worker } from 'node:worker_threads'
import { PosttrainError } from '../../errors.js'
import { packageRoot } from '../../libtorch/find/libtorch.js'
import type { Example } from '../rows/rows.js'
import { formOf, placed, type StringForm, type TextForm } from '../rows/string-rows.js'
import { Template, type TemplateSpec } from '../text/template.js'
import { Tokenizer, type TokenizerFiles } from '../text/tokenizer.js'
import { type Digest, digest } from './digests.js'
import {
  type Dropped,
  type EncodedRow,
  type EncodeOptions,
  encodeRow,
  encodeText,
  rowsOfText,
  type TextTokens,
} from './mask.js'
import { withReasoning } from './reasoning.js'

export type EncoderOptions = EncodeOptions & StringForm

/** Tokenizer, template and options of an encoder, as data for the worker. */
export interface EncoderSpec {
  files: TokenizerFiles
  template: TemplateSpec
  options: EncoderOptions
}

/** Encoded rows of an example, or why they were dropped, and a hash of its words. */
export interface Encoded {
  rows: (EncodedRow | Dropped)[]
  /** Tokens of a plain text; it has no `rows`. */
  text?: TextTokens
  words: Digest
  /** How a string prompt was taken; null for messages and plain text. */
  strings: TextForm | null
  /** Whether marks of special tokens in a text outside of messages were read as text. */
  marks: boolean
}

/** The rows of an encoded example. */
export function* rowsIn({ rows, text }: Encoded, maxLength: number): Generator<EncodedRow | Dropped> {
  yield* rows
  if (text !== undefined) yield* rowsOfText(text, maxLength)
}

/** Message of an error in the example itself. */
export interface EncodeError {
  error: string
}

export interface EncodeRequest {
  id: number
  examples: readonly Example[]
}

/** Encodes examples in order; returns errors in an example instead of throwing them. */
export function encodeAll(
  examples: readonly Example[],
  tokenizer: Tokenizer,
  template: Template,
  options: EncoderOptions,
): (Encoded | EncodeError)[] {
  return examples.map((example) =>
    attempt(() => {
      const whole = placed(example, options)
      const form = example.kind === 'messages' ? null : formOf(example, options)
      return {
        ...tokensOf(whole, tokenizer, template, options),
        words: digest(wordsOf(example)),
        strings: example.kind === 'completion' ? form : null,
        marks: form !== null && form !== 'rendered' && hasMarks(textsOf(example), tokenizer),
      }
    }),
  )
}

/** An error where reasoning 'keep' made several rows of a response. */
export function refuseSeveral(result: Encoded | EncodeError): Encoded | EncodeError {
  if ('error' in result || result.rows.length === 1) return result
  return {
    error: `a response has ${result.rows.length} turns of the assistant, of which reasoning 'keep' would make a row each: set reasoning to 'template' or 'drop'`,
  }
}

function tokensOf(
  example: Example,
  tokenizer: Tokenizer,
  template: Template,
  options: EncoderOptions,
): Pick<Encoded, 'rows' | 'text'> {
  if (example.kind !== 'text') {
    const turns = withReasoning(example, options.reasoning)
    return { rows: turns.map((each) => encodeRow(each, tokenizer, template, options)) }
  }
  const text = encodeText(example, tokenizer)
  return typeof text === 'string' ? { rows: [text] } : { rows: [], text }
}

/** Whether a text has marks of special tokens in it. */
export const hasMarks = (texts: readonly string[], tokenizer: Tokenizer): boolean =>
  texts.some((text) => tokenizer.firstSpecial(text) !== null)

/** Runs `encode` and returns its ERR_DATA, an error in the example, instead of throwing it. */
export function attempt<Result>(encode: () => Result): Result | EncodeError {
  try {
    return encode()
  } catch (error) {
    if (error instanceof PosttrainError && error.code === 'ERR_DATA') return { error: error.message }
    throw error
  }
}

/** Characters that are compared at once. */
const WORDS = 2 ** 16

/** Text of an example without case, punctuation and spaces, in pieces. */
function* wordsOf(example: Example): Generator<string> {
  for (const text of textsOf(example))
    for (let at = 0; at < text.length; at += WORDS)
      yield text
        .slice(at, at + WORDS)
        .normalize('NFKC')
        .toLowerCase()
        .replace(/[\p{P}\p{S}\s]+/gu, '')
}

/** Memory for short-lived objects in the worker, which V8 would let grow to 48 MB before it looks through them. */
const YOUNG_MB = 12
/** Less data than this is encoded in this thread, row by row; starting a worker would take longer. */
const INLINE_CHARACTERS = 50_000
/** A longer row would block the event loop for too long. */
const INLINE_ROW = 2_000

function textsOf(example: Example): string[] {
  switch (example.kind) {
    case 'text':
      return [example.text]
    case 'completion':
      return [example.prompt, example.completion]
    case 'messages':
      return example.messages.flatMap(({ role, content }) => [role, content])
    default:
      return example satisfies never
  }
}

const sizeOf = (example: Example) => textsOf(example).reduce((sum, text) => sum + text.length, 0)

/** Encodes without blocking the event loop: small data row by row, the rest in a worker thread. */
export class RowEncoder {
  readonly #tokenizer: Tokenizer
  readonly #template: Template
  readonly #options: EncoderOptions
  readonly #waiting = new Map<
    number,
    { resolve: (rows: (Encoded | EncodeError)[]) => void; reject: (error: unknown) => void }
  >()
  #worker: Worker | null = null
  #characters = 0
  #next = 0

  constructor(tokenizer: Tokenizer, template: Template, options: EncoderOptions) {
    this.#tokenizer = tokenizer
    this.#template = template
    this.#options = options
  }

  async encode(examples: readonly Example[]): Promise<(Encoded | EncodeError)[]> {
    const sizes = examples.map(sizeOf)
    this.#characters += sizes.reduce((sum, size) => sum + size, 0)
    const small = this.#characters <= INLINE_CHARACTERS && Math.max(...sizes) <= INLINE_ROW
    if (this.#worker === null && small) {
      const results: (Encoded | EncodeError)[] = []
      for (const example of examples) {
        results.push(...encodeAll([example], this.#tokenizer, this.#template, this.#options))
        await new Promise((resolve) => setImmediate(resolve))
      }
      return results
    }
    const worker = this.#start()
    const id = this.#next++
    // Keeps the process alive until the rows are encoded.
    worker.ref()
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
      template: this.#template.spec,
      options: this.#options,
    }
    // Throws in a bundle, where the worker's file is not beside this one.
    packageRoot()
    const worker = new Worker(new URL('./encode-worker.js', import.meta.url), {
      workerData: spec,
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    })
    worker.unref()
    const fail = (error: unknown) => {
      for (const { reject } of this.#waiting.values()) reject(error)
      this.#waiting.clear()
    }
    worker.on(
      'message',
      ({ id, results, error }: { id: number; results?: (Encoded | EncodeError)[]; error?: string }) => {
        const waiting = this.#waiting.get(id)
        this.#waiting.delete(id)
        if (this.#waiting.size === 0) worker.unref()
        if (results !== undefined) waiting?.resolve(results)
        else waiting?.reject(new PosttrainError('ERR_INTERNAL', `encoding failed: ${error}`))
      },
    )
    worker.on('error', fail)
    worker.on('exit', () => fail(new PosttrainError('ERR_INTERNAL', 'the encoding thread ended')))
    this.#worker = worker
    return worker
  }
}

/** Builds the encoder of a spec, in the worker. */
export function encoderOf(spec: EncoderSpec): (examples: readonly Example[]) => (Encoded | EncodeError)[] {
  const tokenizer = Tokenizer.fromFiles(spec.files)
  const template = Template.fromSpec(spec.template)
  return (examples) => encodeAll(examples, tokenizer, template, spec.options)
}
