import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BaseHandle, Core, Dtype, WeightMapEntry } from '../addon/addon.js'
import { call } from '../addon/call.js'
import type { Tokenizer } from '../data/index.js'
import { writeFolderAtomic } from '../files/atomic.js'
import type { HfConfig } from './families/index.js'
import { shardsOf } from './weights.js'

/** All that a saved model is made of. */
export interface SavedModel {
  core: Core
  base: BaseHandle
  /** Each tensor and how many values it has. */
  entries: { entry: WeightMapEntry; values: number }[]
  dtype: Dtype
  config: HfConfig
  generationConfig: Record<string, unknown>
  stopIds: readonly number[]
  tokenizer: Tokenizer
  chatTemplate: string | null
  overwrite: boolean
  signal: AbortSignal | undefined
}

/** Writes a Hugging Face folder, whole or not at all. */
export async function writeModelFolder(directory: string, model: SavedModel): Promise<void> {
  const { core, base, dtype } = model
  const { shards, index } = shardsOf(model.entries, dtype)
  const write = (folder: string, name: string, value: unknown) =>
    writeFile(join(folder, name), `${JSON.stringify(value, null, 2)}\n`)
  await writeFolderAtomic(
    directory,
    async (folder) => {
      for (const { file, entries } of shards) {
        const options = { dtype, metadata: { format: 'pt' } }
        const target = join(folder, file)
        await call(core, (cancel) => core.saveTensors(base, target, entries, options, cancel), model.signal)
      }
      if (index !== null) await writeFile(join(folder, 'model.safetensors.index.json'), index)
      await write(folder, 'config.json', { ...model.config, dtype, torch_dtype: dtype })
      await write(folder, 'generation_config.json', generationConfig(model))
      await model.tokenizer.save(
        folder,
        model.chatTemplate === null ? {} : { chatTemplate: model.chatTemplate },
      )
    },
    { replace: model.overwrite },
  )
}

/** What was read, with every id that ends an answer, the template's terminator among them. */
function generationConfig({
  generationConfig: read,
  tokenizer,
  stopIds,
}: SavedModel): Record<string, unknown> {
  return {
    ...read,
    ...(tokenizer.bosId !== null && { bos_token_id: read.bos_token_id ?? tokenizer.bosId }),
    ...(stopIds.length > 0 && { eos_token_id: stopIds.length === 1 ? stopIds[0] : stopIds }),
    ...(tokenizer.padId !== null && { pad_token_id: read.pad_token_id ?? tokenizer.padId }),
  }
}
