import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import { criticLora } from '../../models/lora.js'
import type { LoraOptions } from '../../models/options.generated.js'
import { RewardModel } from '../../models/reward-model.js'
import { refuseOtherTokens } from '../../rollout/rewards.js'
import { freeName } from './adapter.js'
import { saveResult } from './save-result.js'
import { refuseWhileTrained } from './training-lock.js'

interface Options {
  model: CausalLM
  critic?: RewardModel | undefined
  lora?: Omit<LoraOptions, 'seed'> | undefined
  seed: number
}

/**
 * Creates the critic from option `critic`, else from the first reward model among the rewards, else from the actor's trunk
 * with a zero head: a separate model, or an adapter with LoRA. Must be called before the actor gets an adapter, which
 * would freeze the weights copied here.
 */
export async function makeCritic(
  options: Options,
  sources: readonly { reward: unknown }[],
): Promise<RewardModel> {
  const { model, critic: given, seed } = options
  if (given) refuseOtherTokens(given, model, 'the critic')
  const start = given ?? sources.map(({ reward }) => reward).find((reward) => reward instanceof RewardModel)
  const adapted = options.lora !== undefined || model.adapter !== null
  if (!adapted) {
    if (start) {
      if (start.adapter !== null) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          'the reward model has an adapter, from which a critic with its own weights cannot start: merge it first (posttrain merge), or train with lora',
        )
      }
      return await start.clone()
    }
    const trunk = await model.clone()
    const critic = await RewardModel.fromCausalLM(trunk, { seed: null })
    await trunk.dispose()
    return critic
  }
  const critic = start ? await start.view() : await RewardModel.fromCausalLM(model, { seed: null })
  try {
    refuseWhileTrained(critic)
    const name = freeName(critic, 'critic')
    const from = start ? start.adapter : model.adapter
    if (from === null) {
      await critic.addAdapter(name, { ...criticLora(options.lora ?? loraOf(model)), seed: seed + 1 })
    } else {
      await critic.copyAdapter(from, name)
      await critic.setAdapter(name)
    }
    return critic
  } catch (error) {
    await critic.dispose()
    throw error
  }
}

/** Saves the critic into its folder: an adapter with its head, or a model. */
export async function saveCritic(
  critic: RewardModel,
  path: string,
  dtype: 'float32' | 'bfloat16' | 'float16' | undefined,
): Promise<void> {
  await saveResult(critic, { model: path, adapter: path }, { dtype, padToken: criticPad(critic) })
}

/** LoRA options of the adapter in use. */
function loraOf(model: CausalLM) {
  const { rank, alpha, rsLora, dora } = model.role.adapterConfig!
  return { rank, alpha, rsLora, dora }
}

/** Pad token of a critic. It is read at every token, so without a spare special token any other may pad. */
function criticPad({ tokenizer }: RewardModel): string | undefined {
  const spare = tokenizer.specialTokens.some(({ id }) => id !== tokenizer.eosId)
  return spare ? undefined : tokenizer.idToToken(tokenizer.eosId === 0 ? 1 : 0)
}
