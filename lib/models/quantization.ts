import { shown } from '../arguments.js'
import { PosttrainError } from '../errors.js'

/** How the frozen linear layers of a base are kept in memory: in 4 bits, or null for their own dtype. */
export type Quantization = 'nf4' | null

/** Beside a tensor in 4 bits: what bitsandbytes says of it. Its companions have the same name with other endings. */
export const STATE = '.quant_state.bitsandbytes__nf4'
const COMPANIONS = ['.absmax', '.quant_map', '.nested_absmax', '.nested_quant_map', STATE]

/** Names of the tensors that belong to one in 4 bits. */
export const companionsOf = (name: string): string[] => COMPANIONS.map((ending) => `${name}${ending}`)

/** Weights that can be in 4 bits: the linear layers of the blocks. */
export const isQuantized = (parameter: string): boolean =>
  /^layers\.\d+\.(qkv|out|up|down)\.weight$/.test(parameter)

/**
 * What config.json says of weights that are quantized in the files: NF4 of bitsandbytes, or null. Throws
 * ERR_UNSUPPORTED_MODEL for other kinds.
 */
export function quantizationIn({
  quantization_config: given,
}: Readonly<Record<string, unknown>>): Quantization {
  if (given === undefined || given === null) return null
  const refuse = (what: string) => {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `config.json: the weights are quantized (${what}), and only NF4 of bitsandbytes is read: take the model in 16 bits, with quantize 'nf4' to have it in 4 bits in memory`,
    )
  }
  if (typeof given !== 'object' || Array.isArray(given)) return refuse(shown(given))
  const { quant_method, load_in_4bit, load_in_8bit, bnb_4bit_quant_type } = given as Record<string, unknown>
  // Files of 2023 have no quant_method.
  if (quant_method !== 'bitsandbytes' && !(quant_method === undefined && load_in_4bit === true))
    return refuse(`quant_method ${shown(quant_method)}`)
  if (load_in_4bit !== true) return refuse(load_in_8bit === true ? '8 bits of bitsandbytes' : 'not in 4 bits')
  if (bnb_4bit_quant_type !== 'nf4')
    return refuse(`bnb_4bit_quant_type ${shown(bnb_4bit_quant_type ?? 'fp4')}`)
  return 'nf4'
}
