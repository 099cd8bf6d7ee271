import type { Command, Help, Option } from 'commander'
import type { Flag } from '../options/flags.js'
import { EXAMPLES, headingOf, headingOrder } from './help-groups.js'
import { wrap } from './terminal.js'

/** Widest column of terms; a longer term has a line of its own. */
const TERM_COLUMNS = 26
/** Longest list of values in a term; a longer one is listed in the text, or below the options. */
const VALUES_COLUMNS = 22

interface Item {
  term: string
  text: string
}

/** Flags of options that came from a schema. */
const flags = new WeakMap<Option, Flag>()

/** Describes an option by the flag that it was made from, for the help and the completion. */
export function describeOption(option: Option, flag: Flag, command: string): Option {
  flags.set(option, flag)
  return option.helpGroup(`${headingOf(command, flag.path, flag.required)}:`)
}

export function flagOfOption(option: Option): Flag | undefined {
  return flags.get(option)
}

/** The help of a command: required options first, then the others by their headings, long lists of values, examples. */
export function formatHelp(command: Command, helper: Help): string {
  const width = Math.max(40, Math.min(helper.helpWidth ?? 80, 100))
  const sections: string[] = [`Usage: ${helper.commandUsage(command)}`]
  const description = helper.commandDescription(command)
  if (description) sections.push(wrap(description, width))
  const options = helper.visibleOptions(command)
  const groups = new Map<string, Item[]>()
  const add = (heading: string, item: Item) => groups.set(heading, [...(groups.get(heading) ?? []), item])
  for (const argument of helper.visibleArguments(command)) {
    add('Arguments:', { term: argument.name(), text: helper.argumentDescription(argument) })
  }
  for (const sub of helper.visibleCommands(command)) {
    if (sub.name() === 'help') continue
    const term = `${sub.name()}${sub.registeredArguments.map((argument) => ` <${argument.name()}>`).join('')}`
    add(sub.helpGroup() || 'Commands:', { term, text: helper.subcommandDescription(sub) })
  }
  const names = new Map(options.map((option) => [flags.get(option)?.path, `--${flags.get(option)?.name}`]))
  const ordered = options
    .map((option) => [option.helpGroupHeading ?? 'General:', option] as const)
    .toSorted(([a], [b]) => headingOrder(a) - headingOrder(b))
  for (const [heading, option] of ordered) add(heading, itemOf(option, names))
  const all = [...groups.values()].flat()
  const column = Math.min(TERM_COLUMNS, Math.max(...all.map(({ term }) => term.length))) + 4
  for (const [heading, items] of groups) sections.push(section(heading, items, column, width))
  for (const option of options) {
    const { name, choices } = flags.get(option) ?? {}
    if (!choices) continue
    const items = Object.entries(choices).map(([term, text]) => ({ term, text }))
    const terms = Math.max(...items.map(({ term }) => term.length)) + 4
    sections.push(section(`Values of --${name}:`, items, terms, width))
  }
  const examples = EXAMPLES[command.name()]
  if (examples && command.parent?.name() !== 'estimate') {
    sections.push(`Examples:\n${examples.map((line) => `  ${line}`).join('\n')}`)
  }
  return `${sections.join('\n\n')}\n`
}

function section(heading: string, items: readonly Item[], column: number, width: number): string {
  const lines = items.map(({ term, text }) => {
    const head = `  ${term}`
    const described = text === '' ? [] : wrap(text, width - column).split('\n')
    if (head.length > column - 2) return [head, ...described.map((line) => `${' '.repeat(column)}${line}`)]
    return described.length === 0
      ? [head]
      : described.map((line, i) => `${(i === 0 ? head : '').padEnd(column)}${line}`)
  })
  return [heading, ...lines.flat()].join('\n')
}

/** Term and text of an option; in the text, options are named by their flags. */
function itemOf(option: Option, names: ReadonlyMap<string | undefined, string>): Item {
  const flag = flags.get(option)
  if (flag === undefined) return { term: option.flags, text: option.description }
  const text = flag.text.replace(/[a-z]+(?:[A-Z][a-z]*)+(?:\.[a-z]\w*)*/g, (word) => names.get(word) ?? word)
  if (flag.kind === 'group')
    return { term: `--${flag.name}`, text: `${text}; alone, with the defaults below` }
  if (flag.kind === 'switch') {
    return flag.fallback === true
      ? { term: `--[no-]${flag.name}`, text: `${text} (default: on)` }
      : { term: `--${flag.name}`, text }
  }
  const values = flag.values && (flag.choices ? '' : flag.values.join(', '))
  const isLong = flag.placeholder.length > VALUES_COLUMNS
  const term = `--${flag.name} <${isLong ? 'NAME' : flag.placeholder}>`
  const facts = [
    values && isLong
      ? `one of ${values}`
      : !flag.values && isLong
        ? flag.placeholder.replaceAll('|', ', ')
        : '',
    flag.fallback === undefined || flag.required ? '' : `default: ${shown(flag.fallback)}`,
    flag.repeat ? 'may be repeated' : '',
  ].filter(Boolean)
  return { term, text: facts.length === 0 ? text : `${text} (${facts.join('; ')})` }
}

/** A default value; small numbers as `1e-8`. */
function shown(value: unknown): string {
  return typeof value === 'number' && value !== 0 && Math.abs(value) < 1e-3
    ? value.toExponential()
    : String(value)
}
