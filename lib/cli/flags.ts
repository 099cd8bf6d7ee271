import { readFile } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import { PosttrainError } from '../errors.js'
import { applyFlags, type Flag, flagsOf, kebab } from '../options/flags.js'
import type { OptionSet, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'

/** Wrong usage of the command line: exit code 2. */
export class UsageError extends Error {}

/** Adds one flag for each option of the set, and `--config FILE`. */
export function addFlags(command: Command, set: OptionSet): Command {
  for (const flag of flagsOf(set.schema())) {
    if (flag.kind === 'switch') {
      command.addOption(new Option(`--${flag.name}`, help(flag)))
      const off = new Option(`--no-${flag.name}`, `Turn off --${flag.name}`)
      command.addOption(off.hideHelp(flag.fallback !== true))
      command.setOptionValue(attribute(flag), undefined)
    } else {
      const option = new Option(`--${flag.name} <${flag.placeholder}>`, help(flag))
      if (flag.repeat) option.argParser((text, before: string[] | undefined) => [...(before ?? []), text])
      command.addOption(option)
      if (flag.choices !== undefined) command.addHelpText('after', choicesText(flag.name, flag.choices))
    }
  }
  return command.option('--config <FILE>', 'Options in a JSON file; flags take precedence')
}

/**
 * Resolves the options of a parsed command: flags over the config file over the defaults; throws a UsageError for wrong
 * ones. `given` has the options without their defaults, as a recipe takes them.
 */
export async function readFlags<Set extends OptionSet>(
  command: Command,
  set: Set,
): Promise<{ options: ResolvedOptions<Set>; given: Record<string, unknown> }> {
  const parsed = command.opts()
  const values = new Map<Flag, unknown>()
  const names = new Map<string, string>()
  for (const flag of flagsOf(set.schema())) {
    names.set(flag.path, `--${flag.name}`)
    const [group, ...inner] = flag.path.split('.')
    if (group && inner.length > 0) names.set(group, `--${kebab(group)}-...`)
    const given = parsed[attribute(flag)] as string | string[] | boolean | undefined
    if (given === undefined) continue
    if (typeof given === 'boolean') values.set(flag, given)
    else if (Array.isArray(given)) values.set(flag, flag.collect(given.map(flag.read)))
    else values.set(flag, flag.read(given))
  }
  const config = parsed.config === undefined ? {} : await readConfig(parsed.config as string)
  try {
    if (parsed.config !== undefined) {
      // The file is checked on its own first, so that an error names it.
      const alone: OptionSet = { name: set.name, schema: () => set.schema().partial(), conflicts: [] }
      resolveOptions(alone, config as never, parsed.config as string)
    }
    const given = applyFlags(values, config)
    return { options: resolveOptions(set, given as never), given }
  } catch (error) {
    if (!(error instanceof PosttrainError)) throw error
    throw new UsageError(inFlags(error.message, names), { cause: error })
  }
}

/** Names options by their flags: `option maxSteps cannot be combined with epochs` -> `--max-steps ... --epochs`. */
function inFlags(sentence: string, names: ReadonlyMap<string, string>): string {
  return sentence.replace(/\b(option|with|without) ([\w.]+)/g, (text, before: string, path: string) => {
    const flag = names.get(path)
    if (flag === undefined) return text
    return before === 'option' ? flag : `${before} ${flag}`
  })
}

async function readConfig(path: string): Promise<object> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new UsageError(`--config: cannot read ${path} (${(error as NodeJS.ErrnoException).code})`)
  }
  try {
    const value: unknown = JSON.parse(text)
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value
  } catch (error) {
    throw new UsageError(`--config: ${path} is not JSON: ${(error as Error).message}`)
  }
  throw new UsageError(`--config: ${path} must hold one JSON object of options`)
}

function choicesText(name: string, choices: Readonly<Record<string, string>>): string {
  const width = Math.max(...Object.keys(choices).map((choice) => choice.length))
  const lines = Object.entries(choices).map(([choice, text]) => `  ${choice.padEnd(width)}  ${text}`)
  return `\nValues of --${name}:\n${lines.join('\n')}`
}

function help(flag: Flag): string {
  const more = flag.repeat ? ' (may be repeated)' : ''
  const shown = flag.required
    ? ' (required)'
    : flag.fallback === undefined
      ? ''
      : ` (default: ${flag.fallback})`
  return `${flag.text}${more}${shown}`
}

/** Commander's own name for a flag: camelCase of the kebab-case. */
function attribute(flag: Flag): string {
  return flag.name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
