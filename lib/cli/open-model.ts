import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Tokenizer } from '../data/text/tokenizer.js'
import { PosttrainError } from '../errors.js'
import { isFile } from '../files/read.js'
import type { LoadOptions } from '../models/base.js'
import { CausalLM } from '../models/causal-lm.js'
import { readConfig } from '../models/folder.js'
import { modelSource } from '../models/hub.js'
import { readPeftConfig } from '../models/peft-config.js'
import { isRewardModel, openScoredBase, RewardModel } from '../models/reward-model.js'
import type { RewardFunction } from '../rollout/rewards.js'
import { loading, type ModelOptions } from './machine.js'

/** Name of the adapter that a command loads onto its model. */
const GIVEN = 'given'

/** Opens the model of a command, with its adapter and threads. */
export function openModel(options: ModelOptions): Promise<CausalLM> {
  return openWith(CausalLM.load, options)
}

async function openWith<Model extends CausalLM | RewardModel>(
  load: (model: string, options: LoadOptions) => Promise<Model>,
  { model, adapter, ...machine }: ModelOptions,
): Promise<Model> {
  const opened = await load(model, loading(machine))
  try {
    if (adapter !== undefined) await opened.loadAdapter(GIVEN, adapter)
    return opened
  } catch (error) {
    await opened.dispose()
    throw error
  }
}

/** Opens a reward model if the folder or the adapter is one, else a language model. */
export async function openTrainable(options: ModelOptions): Promise<CausalLM | RewardModel> {
  const { model, adapter } = options
  const { folder } = await modelSource(model, 'reward')
  const scored = (await isRewardModel(folder)) || (adapter !== undefined && (await isScored(adapter)))
  return scored ? await openScored(options) : await openModel(options)
}

/** True if an adapter is that of a reward model. */
export async function isScored(adapter: string): Promise<boolean> {
  const { folder } = await modelSource(adapter, 'adapter')
  return (await readPeftConfig(folder)).scored
}

/** Opens a reward model: the folder of one, or a language model whose adapter has the scalar head. */
export function openScored(options: ModelOptions): Promise<RewardModel> {
  return openWith(openScoredBase, options)
}

/**
 * Opens the rewards of `--reward`: a .js file that exports a function (`default` or `reward`), or the folder of a reward
 * model or of its adapter, which shares the weights of `policy` if it was trained on them. `=WEIGHT` may follow.
 */
export async function openRewards(
  given: readonly string[],
  policy: CausalLM,
  { model, adapter: _, ...machine }: ModelOptions,
): Promise<{
  rewards: { reward: RewardModel | RewardFunction; weight: number; name: string }[]
  close: () => Promise<void>
}> {
  const opened: RewardModel[] = []
  const close = async () => {
    for (const reward of opened) await reward.dispose()
  }
  const open = async (path: string): Promise<RewardModel | RewardFunction> => {
    if (/\.[cm]?[jt]s$/.test(path)) {
      if (existsSync(path)) return await rewardFunction(path)
      throw new PosttrainError('ERR_INVALID_FILE', `--reward ${path} does not exist`)
    }
    const reward = await RewardModel.load(path, {
      ...loading(machine),
      onto: { model: policy, directory: model },
    })
    opened.push(reward)
    return reward
  }
  try {
    const rewards = []
    for (const text of given) {
      // `lr=0.5` may itself be the name of a folder.
      const [, path, weight] = existsSync(text)
        ? [text, text]
        : /^(.*?)(?:=([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?))?$/is.exec(text)!
      rewards.push({
        reward: await open(path!),
        weight: weight === undefined ? 1 : Number(weight),
        name: path!,
      })
    }
    return { rewards, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function rewardFunction(path: string): Promise<RewardFunction> {
  let module: Record<string, unknown>
  // Node would wait for a named pipe, and read a device without end.
  await isFile(path)
  try {
    module = (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>
  } catch (cause) {
    const sentence = `--reward ${path} cannot be loaded: ${whyUnloaded(path, cause as Error)}`
    throw new PosttrainError('ERR_INVALID_FILE', sentence, { cause })
  }
  const found = module.default ?? module.reward
  if (typeof found === 'function') return found as RewardFunction
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    `--reward ${path} exports no function: export default (samples) => samples.map(...)`,
  )
}

/** Why Node refuses a file, with what to do where the package it stands in decides. */
function whyUnloaded(path: string, { name, code, message }: NodeJS.ErrnoException): string {
  const [, c, m, t] = /\.(c?)(m?)([jt])s$/.exec(path)!
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && t === 't')
    return `this Node (${process.version}) does not run TypeScript: take Node 22.18 or later, or compile it to .js`
  // Node reads it as CommonJS, because the nearest package.json says so or does not say "module".
  const isModule = name === 'SyntaxError' && /'export'|import statement/.test(message)
  if (isModule && !c && !m)
    return `it is an ES module, and the nearest package.json does not say "type": "module": add that, or name the file ${path.replace(/(?=[jt]s$)/, 'm')}`
  return message
}

/** New random weights for the config and tokenizer of the model. */
export async function createModel(
  { model, adapter: _, ...machine }: ModelOptions,
  seed: number,
): Promise<CausalLM> {
  const { folder } = await modelSource(model, 'blank')
  const config = await readConfig(folder)
  return CausalLM.create(config, {
    seed,
    tokenizer: await Tokenizer.load(folder),
    ...loading(machine),
  })
}
