// What an adapter can hold of a model: low-rank updates of its modules and copies of its parameters, chosen by name as
// PEFT 0.21 does.
import type { AdapterSpec, DecoderSpec, WeightMapEntry } from '../addon/addon.js'
import { LinearRegex } from '../data/text/linear-regex.js'
import { compile, parsePattern } from '../data/text/regex-program.js'
import { PosttrainError } from '../errors.js'
import type { Family } from './families/index.js'

/** One module with a low-rank update. */
export type AdapterModule = AdapterSpec['modules'][number]

/** A full copy of a parameter, and its names in the file. */
export type AdapterCopy = AdapterSpec['copies'][number] & {
  /** Keys in the file without the prefix; two where embedding and head share the copy. */
  inFile: string[]
  transpose?: boolean
}

/** A module that can have a low-rank update. */
export type KnownModule = Pick<AdapterModule, 'name' | 'layer' | 'linear' | 'rows'> & { transpose: boolean }

/** The models of one base that an adapter can be made for. */
export interface AdaptedModel {
  family: Family
  spec: DecoderSpec
  /** A reward model or critic, which has no output projection. */
  scored: boolean
}

export const LM_HEAD = 'lm_head'

const LINEAR = /^layers\.(\d+)\.(qkv|out|up|down)\.weight$/
const OTHERS: Record<string, AdapterModule['linear']> = {
  'embed.weight': 'embed',
  'positions.weight': 'positions',
  'head.weight': 'head',
}

export const isEmbedding = ({ linear }: Pick<AdapterModule, 'linear'>) =>
  linear === 'embed' || linear === 'positions'

/** Whether a module is a linear layer of a block: a target by default. */
export const inBlock = (module: Pick<AdapterModule, 'linear'>) =>
  !isEmbedding(module) && module.linear !== 'head'

/** Weights by their names in the files, a tied head as one of its own. */
export function knownWeights({ family, spec, scored }: AdaptedModel): WeightMapEntry[] {
  const weights = family.weights(spec).filter(({ parameter }) => !scored || parameter !== 'head.weight')
  const tiedHead = { name: `${LM_HEAD}.weight`, parameter: 'head.weight' }
  return spec.tied && !scored ? [...weights, tiedHead] : weights
}

/** All modules that can have a low-rank update, by their names in the files. */
export function knownModules(model: AdaptedModel): KnownModule[] {
  return knownWeights(model).flatMap(({ name, parameter, rows, transpose }) => {
    const [, layer, inLayer] = LINEAR.exec(parameter) ?? []
    const linear = (inLayer as AdapterModule['linear'] | undefined) ?? OTHERS[parameter]
    if (linear === undefined) return []
    return [
      {
        name: name.replace(/\.weight$/, ''),
        layer: Number(layer ?? 0),
        linear,
        transpose: transpose === true,
        ...(rows && { rows }),
      },
    ]
  })
}

/** Whether a target names a module: its whole name, or its end from a dot on. */
export const isNamed = (module: string, target: string) => module === target || module.endsWith(`.${target}`)

/** What JavaScript spells otherwise than Python. Edges of words are lookarounds, which alone run in linear time. */
const SPELLED: Readonly<Record<string, string>> = {
  '(?P<': '(?<',
  '\\A': '^',
  '\\Z': '$',
  '\\b': '(?:(?<=\\w)(?!\\w)|(?<!\\w)(?=\\w))',
  '\\B': '(?:(?<=\\w)(?=\\w)|(?<!\\w)(?!\\w))',
}

/** A regular expression of Python as JavaScript spells it. */
function translated(expression: string): string {
  let inClass = false
  return expression.replace(/\\.|\(\?P<|[[\]]/gs, (piece) => {
    if (piece === '[' || piece === ']') inClass = piece === '['
    // Python escapes any sign, JavaScript only those that mean something.
    else if (/^\\[^a-zA-Z0-9^$\\.*+?()[\]{}|/]$/.test(piece))
      return inClass && piece === '\\-' ? piece : piece[1]!
    return (inClass ? undefined : SPELLED[piece]) ?? piece
  })
}

/** Whether Python's `re.match` of a regular expression finds something. Throws ERR_INVALID_FILE with what it is for. */
function matches(expression: string, text: string, what: string): boolean {
  try {
    // In linear time: a file may hold an expression that backtracks for years.
    return (
      new LinearRegex(compile(parsePattern(translated(expression)), what), what)[Symbol.match](text) !== null
    )
  } catch (cause) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `${what} ${JSON.stringify(expression)} cannot be matched: ${(cause as Error).message}`,
      { cause },
    )
  }
}

/** Python's `re.fullmatch`. */
export const fullMatch = (expression: string, text: string, what: string) =>
  matches(`^(?:${expression})$`, text, what)

/** The value of the first pattern that matches the end of a module's name, from a dot on. */
export function valueOfPattern(
  patterns: Readonly<Record<string, number>>,
  module: string,
  what: string,
): number | undefined {
  for (const [pattern, value] of Object.entries(patterns)) {
    const found = /^[\w.]+$/.test(pattern)
      ? // Most are plain names, in which a dot stands for any character.
        new RegExp(`^(.*\\.)?(${pattern})$`).test(module)
      : matches(`^(.*\\.)?(${pattern})$`, module, what)
    if (found) return value
  }
  return undefined
}

/** Parameters of the modules whose names end with one of `names`; a container stands for all that it holds. */
export function savedWeights(model: AdaptedModel, names: readonly string[]): WeightMapEntry[] {
  return knownWeights(model).filter(({ name }) => isSaved(name, names))
}

/** Whether `modules_to_save` names a module that holds a weight. */
export function isSaved(weight: string, names: readonly string[]): boolean {
  const parts = weight.split('.')
  return parts.some((_, end) => {
    const module = parts.slice(0, end).join('.')
    return module !== '' && names.some((name) => module.endsWith(name))
  })
}

/** The biases that `bias` trains, by their keys in the file: that of an adapted layer is its base layer's. */
export function trainedBiases(
  model: AdaptedModel,
  bias: 'none' | 'all' | 'lora_only',
  adapted: ReadonlySet<string>,
): { key: string; weight: WeightMapEntry }[] {
  if (bias === 'none') return []
  return knownWeights(model).flatMap((weight) => {
    if (!weight.name.endsWith('.bias')) return []
    const module = weight.name.replace(/\.bias$/, '')
    if (adapted.has(module)) return [{ key: `${module}.base_layer.bias`, weight }]
    return bias === 'all' ? [{ key: weight.name, weight }] : []
  })
}

/** A copy of a weight under its key in the file. */
export function copyOf(
  { parameter, rows, transpose }: WeightMapEntry,
  key: string,
  trainable: boolean,
): AdapterCopy {
  return {
    name: key,
    parameters: [parameter],
    trainable,
    inFile: [key],
    ...(rows && { rows }),
    ...(transpose && { transpose }),
  }
}

/** One copy that embedding and head share, in place of a copy of each. */
export function sharedCopies(copies: readonly AdapterCopy[], embedding: string): AdapterCopy[] {
  const head = `${LM_HEAD}.weight`
  return copies.flatMap((copy) => {
    if (copy.inFile[0] === head) return []
    if (copy.name !== embedding) return [copy]
    return [{ ...copy, parameters: [...copy.parameters, 'head.weight'], inFile: [embedding, head] }]
  })
}

/**
 * Frozen weights of a tied head and embedding are one parameter, as in PEFT, which loads both into it: a copy of the
 * embedding is that of the head too.
 */
export function withoutRepeatedHead(copies: readonly AdapterCopy[], embedding: string): AdapterCopy[] {
  const isFrozen = ({ trainable, parameters }: AdapterCopy) =>
    !trainable && (parameters[0] === 'embed.weight' || parameters[0] === 'head.weight')
  const frozen = copies.filter(isFrozen)
  const [first] = frozen
  if (first === undefined) return [...copies]
  const trained = copies.find(
    ({ trainable, parameters }) =>
      trainable && (parameters[0] === 'embed.weight' || parameters[0] === 'head.weight'),
  )
  const both = ['embed.weight', 'head.weight'].filter((name) => trained?.parameters[0] !== name)
  const shared = {
    ...first,
    name: embedding,
    parameters: both,
    inFile: frozen.flatMap(({ inFile }) => inFile),
  }
  return [...copies.filter((copy) => !isFrozen(copy)), shared]
}
