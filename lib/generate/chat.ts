import type { Message } from '../data/index.js'
import type { CausalLM } from '../models/causal-lm.js'
import { type Piece, stream } from './generate.js'
import type { GenerateOptions } from './options.generated.js'

/**
 * Streams the assistant's next turn of a conversation, through the model's chat template.
 *
 * ```ts
 * for await (const { text } of chat(model, [{ role: 'user', content: '1加1等于几?' }])) process.stdout.write(text)
 * ```
 */
export async function* chat(
  model: CausalLM,
  messages: readonly Message[],
  options: GenerateOptions = {},
): AsyncGenerator<Piece, void> {
  yield* stream(model, [messages], options)
}
