import { type Command, CommanderError, type Help } from 'commander'
import { AbortError } from '../errors.js'
import { nearestName } from '../options/nearest.js'
import { inFlags } from './flags.js'
import { formatHelp } from './help.js'
import { INTERRUPTED } from './interrupt.js'
import { fitted } from './terminal.js'
import { UsageError } from './usage.js'
import { visible } from './visible.js'

/** Gives a command and those inside it the help and the errors of this program. */
export function prepare(command: Command): Command {
  command
    .configureHelp({ formatHelp: (shown: Command, helper: Help) => formatHelp(shown, helper) })
    .configureOutput({ outputError: () => undefined, getOutHelpWidth: () => process.stdout.columns ?? 80 })
    .showSuggestionAfterError(false)
    .helpOption('-h, --help', 'Show this help')
    .exitOverride((error) => {
      throw error.exitCode === 0
        ? error
        : new UsageError(commanderSentence(command, error), { cause: command })
    })
  for (const inner of command.commands) prepare(inner)
  return command
}

/** A sentence of commander in the voice of the other errors. */
function commanderSentence(command: Command, { code, message }: CommanderError): string {
  const quoted = /'([^']*)'/.exec(message)?.[1] ?? ''
  const suggest = (known: string[], prefix = '') => {
    const near = nearestName(quoted, known)
    return near === undefined ? '' : `; did you mean ${prefix}${near.replace(/^-+/, '')}?`
  }
  switch (code) {
    case 'commander.unknownOption':
      return `unknown option ${quoted.replace(/=.*/s, '')}${suggest(
        command.options.filter(({ hidden }) => !hidden).map(({ long }) => long ?? ''),
        '--',
      )}`
    case 'commander.unknownCommand':
      return `unknown command ${quoted}${suggest(command.commands.map((inner) => inner.name()))}`
    case 'commander.optionMissingArgument':
      return `${quoted.split(' ')[0]} needs a value: ${quoted}`
    case 'commander.missingArgument':
    case 'commander.missingMandatoryOptionValue':
      return missing(command)
    case 'commander.invalidArgument':
      return invalid(command, message)
    case 'commander.excessArguments':
      return `unexpected ${command.args.map((text) => JSON.stringify(text)).join(' ')}: options begin with --, and a value with spaces needs quotes`
    default:
      return message.replace(/^error: /, '')
  }
}

/** All arguments and required options that a command was not given. */
function missing(command: Command): string {
  const names = [
    ...command.registeredArguments.slice(command.args.length).map((argument) => `<${argument.name()}>`),
    ...command.options
      .filter((option) => option.mandatory && command.getOptionValue(option.attributeName()) === undefined)
      .map(({ long }) => `${long}`),
  ]
  const last = names.pop()
  return names.length === 0 ? `${last} is missing` : `${names.join(', ')} and ${last} are missing`
}

/** A value that is none of the choices of an option or an argument. */
function invalid(command: Command, message: string): string {
  const [, long, value] = /^error: option '(\S+?)[ '].*? argument '(.*)' is invalid/s.exec(message) ?? []
  const option = command.options.find((option) => option.long === long)
  if (option?.argChoices) return oneOf(long!, option.argChoices, value!)
  const [, given, name] =
    /^error: command-argument value '(.*)' is invalid for argument '(.*?)'/s.exec(message) ?? []
  const argument = command.registeredArguments.find((argument) => argument.name() === name)
  if (argument?.argChoices) return oneOf(`<${name}>`, argument.argChoices, given!)
  return message.replace(/^error: /, '')
}

const oneOf = (name: string, choices: readonly string[], given: string) =>
  `${name} must be one of ${choices.join(', ')}, got ${JSON.stringify(given)}`

/** The name of a command with those around it, such as `posttrain estimate sft`. */
export function fullName(command: Command): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name()
}

/** Prints why a command ended, in one voice, and returns the exit code. */
export function report(error: unknown, command: Command): number {
  if (error instanceof CommanderError) return error.exitCode
  if (error instanceof AbortError) return INTERRUPTED
  const isUsage = error instanceof UsageError
  const where =
    isUsage && error.cause && 'commands' in (error.cause as object) ? (error.cause as Command) : command
  const text = error instanceof Error ? error.message : String(error)
  const isFull = /^(EMFILE|ENFILE)\b/.test(text)
  const own = `${where.name()}: `
  const advised = isFull ? `${text}: raise the limit of open files, such as with ulimit -n 1024` : text
  const sentence = inFlags(where, text.startsWith(own) ? text.slice(own.length) : advised)
  process.stderr.write(`${fitted(process.stderr, `${fullName(where)}: ${visible(sentence, '\n')}`)}\n`)
  // Where the sentence itself does not say what to do.
  if (isUsage && /(is|are) missing$|^unknown \w+ \S+$|^unexpected/.test(sentence))
    process.stderr.write(
      `Run '${fullName(where)} --help' for ${where.parent ? 'its options' : 'all commands'}.\n`,
    )
  if (process.env.POSTTRAIN_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  return isUsage ? 2 : 1
}
