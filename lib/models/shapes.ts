import type { DecoderSpec, WeightMapEntry } from '../addon/addon.js'

/** Shape of a native parameter; the names are those of WeightMapEntry. */
export function parameterShape(spec: DecoderSpec, parameter: string): number[] {
  const { vocabSize, hiddenSize } = spec
  const [, at, part, kind] = /^layers\.(\d+)\.(\w+)\.(weight|bias)$/.exec(parameter) ?? []
  if (at === undefined) {
    if (parameter === 'score.weight') return [1, hiddenSize]
    if (parameter === 'positions.weight') return [spec.learnedPositions ?? 0, hiddenSize]
    return parameter.startsWith('norm.') ? [hiddenSize] : [vocabSize, hiddenSize]
  }
  const { heads, kvHeads, headDim, mlp } = spec.layers[Number(at)]!
  const matrix = (rows: number, columns: number) => (kind === 'bias' ? [rows] : [rows, columns])
  switch (part) {
    case 'qNorm':
    case 'kNorm':
      return [headDim]
    case 'qkv':
      return matrix((heads + 2 * kvHeads) * headDim, hiddenSize)
    case 'out':
      return matrix(hiddenSize, heads * headDim)
    case 'up':
      return matrix(mlp.intermediateSize * (mlp.kind === 'gated' ? 2 : 1), hiddenSize)
    case 'down':
      return matrix(hiddenSize, mlp.intermediateSize)
    default:
      return [hiddenSize]
  }
}

/** Shape of a tensor in the files. */
export function shapeInFile(spec: DecoderSpec, { parameter, rows, transpose }: WeightMapEntry): number[] {
  const shape = parameterShape(spec, parameter)
  const part = rows === undefined ? shape : [rows[1], ...shape.slice(1)]
  return transpose === true ? part.toReversed() : part
}
