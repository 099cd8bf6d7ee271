import type { Model } from '../../models/model.js'
import { RewardModel } from '../../models/reward-model.js'

/** Saves the result of training: the adapter in use, else the whole model, each into its folder. */
export async function saveResult(
  model: Model,
  folder: { model: string; adapter: string },
  options: { dtype?: 'float32' | 'bfloat16' | 'float16' | undefined; padToken?: string | undefined } = {},
): Promise<void> {
  const { dtype, padToken } = options
  const given = { ...(dtype && { dtype }), overwrite: true }
  if (model.adapter !== null) await model.saveAdapter(folder.adapter, { overwrite: true })
  else if (model instanceof RewardModel && padToken !== undefined)
    await model.save(folder.model, { ...given, padToken })
  else await model.save(folder.model, given)
}
