import { type Command, Option } from 'commander'
import { PosttrainError } from '../errors.js'
import { applyFlags, type Flag, flagsOf, kebab } from '../options/flags.js'
import type { OptionSet, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { readConfig } from './config-file.js'
import { describeOption } from './help.js'
import { UsageError } from './usage.js'

/** Flags by the paths of their options, for the errors of a command. */
const flagNames = new WeakMap<Command, ReadonlyMap<string, string>>()

/** Adds one flag for each option of the set, and `--config FILE`. */
export function addFlags(command: Command, set: OptionSet): Command {
  const names = new Map<string, string>()
  for (const flag of flagsOf(set.schema())) {
    names.set(flag.path, `--${flag.name}`)
    const [group, ...inner] = flag.path.split('.')
    if (group && inner.length > 0 && !names.has(group)) names.set(group, `--${kebab(group)}-...`)
    const add = (option: Option) => command.addOption(describeOption(option, flag, command.name()))
    if (flag.kind === 'value') {
      const option = new Option(`--${flag.name} <${flag.placeholder}>`, flag.text)
      if (flag.repeat) option.argParser((text, before: string[] | undefined) => [...(before ?? []), text])
      add(option)
    } else {
      add(new Option(`--${flag.name}`, flag.text))
      command.addOption(new Option(`--no-${flag.name}`, `Turn off --${flag.name}`).hideHelp())
      command.setOptionValue(attribute(flag), undefined)
    }
  }
  flagNames.set(command, names)
  return command.addOption(
    new Option('--config <FILE>', "Options in YAML or JSON, or a run's config.json; flags win").helpGroup(
      'General:',
    ),
  )
}

/**
 * Resolves the options of a parsed command: flags over the config file over the defaults; throws a UsageError for wrong
 * ones. `given` has the options without their defaults, as a recipe takes them; `complete` may add to it.
 */
export async function readFlags<Set extends OptionSet>(
  command: Command,
  set: Set,
  complete: (given: Record<string, unknown>) => void = () => undefined,
): Promise<{ options: ResolvedOptions<Set>; given: Record<string, unknown> }> {
  const parsed = command.opts()
  const values = new Map<Flag, unknown>()
  for (const flag of flagsOf(set.schema())) {
    const given = parsed[attribute(flag)] as string | string[] | boolean | undefined
    if (given === undefined) continue
    if (typeof given === 'boolean') values.set(flag, given)
    else if (Array.isArray(given)) values.set(flag, flag.collect(given.map(flag.read)))
    else values.set(flag, flag.read(given))
  }
  refuseOffGroups(values)
  const keepsOutput = parsed.resume === true || parsed.overwrite === true
  const repeat = { keepsOutput, hasAdapter: parsed.adapter !== undefined }
  const config = parsed.config === undefined ? {} : await readConfig(parsed.config as string, set, repeat)
  try {
    const given = applyFlags(values, config)
    complete(given)
    return { options: resolveOptions(set, given as never), given }
  } catch (error) {
    if (!(error instanceof PosttrainError)) throw error
    throw new UsageError(inFlags(command, error.message, true), { cause: error })
  }
}

/** Refuses `--no-lora` together with `--lora-rank` and the like. */
function refuseOffGroups(values: ReadonlyMap<Flag, unknown>): void {
  for (const [group, value] of values) {
    if (group.kind !== 'group' || value !== false) continue
    for (const { path, name } of values.keys()) {
      if (path.startsWith(`${group.path}.`)) {
        throw new UsageError(`--${name} has no effect with --no-${group.name}: leave one of them out`)
      }
    }
  }
}

/** Names options by their flags: `option maxSteps cannot be combined with epochs` -> `--max-steps ... --epochs`. */
export function inFlags(command: Command, sentence: string, alsoUnmarked = false): string {
  const names = flagNames.get(command)
  if (names === undefined) return sentence
  const named = (path: string) => names.get(path) ?? path
  const several = sentence.replace(
    /\boptions ([\w.]+(?:, [\w.]+)*) and ([\w.]+)/,
    (_, list: string, last: string) => `${list.split(', ').map(named).join(', ')} and ${named(last)}`,
  )
  const words = alsoUnmarked ? /\b(option|with|without) ([\w.]+\w)/g : /\b(option) ([\w.]+\w)/g
  return several.replace(words, (text, before: string, path: string) => {
    const flag = names.get(path)
    if (flag === undefined) return text
    return before === 'option' ? flag : `${before} ${flag}`
  })
}

/** Commander's own name for a flag: camelCase of the kebab-case. */
function attribute(flag: Flag): string {
  return flag.name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
