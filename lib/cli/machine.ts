import { text } from '../options/kinds.js'
import { option } from '../options/option.js'
import { lazily } from '../options/zod.js'

/** Flags of every command that computes with a model. */
export const deviceFields = lazily((z) => ({
  device: option(
    z
      .custom<'auto' | 'cpu' | 'cuda' | `cuda:${number}`>(
        (value) => /^(auto|cpu|cuda(:\d+)?)$/.test(String(value)),
        'must be auto, cpu, cuda or cuda:N',
      )
      .default('auto'),
    'auto, cpu, cuda or cuda:N',
    text('NAME'),
  ),
  dtype: option(
    z.enum(['auto', 'float32', 'bfloat16']).default('auto'),
    'Data type of the weights in memory',
  ),
  quantize: option(
    z.enum(['nf4']).optional(),
    'Keep the weights of the base frozen in 4 bits; adapters are trained upon them (QLoRA)',
  ),
  threads: option(z.int().min(1).optional(), 'CPU threads (default: one for each core)'),
  deterministic: option(
    z.boolean().default(false),
    'On CUDA, add up every sum in one order: a run repeats to the bit, more slowly',
  ),
}))

/** Flags of every command that opens a model. */
export const modelFields = lazily((z) => ({
  adapter: option(
    z.string().optional(),
    'Folder of a LoRA adapter to load onto the model, or org/name on the Hub',
    text('DIR'),
  ),
  ...deviceFields(),
}))

/** The model of a command and its device. */
export interface ModelOptions {
  model: string
  adapter?: string | undefined
  device: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  dtype: 'auto' | 'float32' | 'bfloat16'
  quantize?: 'nf4' | undefined
  threads?: number | undefined
  deterministic?: boolean | undefined
}

/** The device, precision and threads of a command, as models are loaded with them. */
export function loading({
  device,
  dtype,
  quantize,
  threads,
  deterministic,
}: Omit<ModelOptions, 'model' | 'adapter'>) {
  return {
    device,
    dtype,
    ...(quantize !== undefined && { quantize }),
    ...(threads !== undefined && { threads }),
    ...(deterministic && { deterministic }),
  }
}
