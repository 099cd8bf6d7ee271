import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { sft } from '../../lib/train/sft.js'

const rows = Array.from({ length: 8 }, (_, i) => ({
  prompt: 'abc'.slice(i % 3),
  completion: 'defghi'.slice(i % 5),
}))

/**
 * Three steps with a checkpoint at each, or the rest of them. No row of the training ends as those of the validation do:
 * its loss rises, and the weights of the first step are the result, where they could be saved. Gives the bytes of its model,
 * and the step of its weights.
 */
export async function trainShort(
  source: string,
  output: string,
): Promise<{ model: Buffer; modelStep: number | undefined }> {
  await using model = await CausalLM.load(source)
  const end = await sft({
    model,
    output,
    data: rows,
    validation: rows.slice(0, 2).map(({ prompt }) => ({ prompt, completion: 'a' })),
    evaluation: { everySteps: 1 },
    batchSize: 4,
    maxSteps: 3,
    learningRate: 1e-2,
    checkpoints: { everySteps: 1, keep: 1 },
    resume: true,
  }).finish()
  return { model: readFileSync(join(end.model!, 'model.safetensors')), modelStep: end.modelStep }
}
