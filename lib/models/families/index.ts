import { shown } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import type { HfConfig } from './config.js'
import type { Family } from './family.js'
import { gemma3 } from './gemma3.js'
import { gpt2 } from './gpt2.js'
import { llama } from './llama.js'
import { mistral } from './mistral.js'
import { qwen2 } from './qwen2.js'
import { qwen3 } from './qwen3.js'

const FAMILIES: readonly Family[] = [gpt2, llama, mistral, qwen2, qwen3, gemma3]

/** The family of a config by its `model_type`. Throws ERR_UNSUPPORTED_MODEL. */
export function familyOf(config: HfConfig): Family {
  const family = FAMILIES.find((known) => known.modelType === config.model_type)
  if (family !== undefined) return family
  throw new PosttrainError(
    'ERR_UNSUPPORTED_MODEL',
    `config.json: model_type ${shown(config.model_type)} is not supported ` +
      `(${FAMILIES.map((known) => known.modelType).join(', ')} are)`,
  )
}

export type { HfConfig } from './config.js'
export type { Family } from './family.js'
