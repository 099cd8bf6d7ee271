import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer } from '../data/tokenizer.js'
import { CausalLM } from '../models/causal-lm.js'
import type { ModelOptions } from './machine.js'

/** The model of a command, with the threads it asked for. */
export async function openModel({ model, device, dtype, threads }: ModelOptions): Promise<CausalLM> {
  return CausalLM.load(model, { device, dtype, ...(threads !== undefined && { threads }) })
}

/** New random weights for the config and tokenizer in the folder. */
export async function createModel(
  { model, device, dtype, threads }: ModelOptions,
  seed: number,
): Promise<CausalLM> {
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'))
  return CausalLM.create(config, {
    seed,
    tokenizer: await Tokenizer.load(model),
    device,
    dtype,
    ...(threads !== undefined && { threads }),
  })
}
