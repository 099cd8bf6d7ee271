import type { Core } from '../../addon/addon.js'
import { call } from '../../addon/call.js'
import type { CausalLM } from '../../models/causal-lm.js'

/** Runs a native function on the core of a model. */
export async function native<T>(model: CausalLM, run: (core: Core) => Promise<T>): Promise<T> {
  const { core } = model.role
  return await call(core, () => run(core))
}
