import { Argument, Command, type Option } from 'commander'
import { flagOfOption } from './help.js'

/** Everything after the name of a command that can be completed. */
interface Completion {
  /** Words of the command, such as `estimate sft`. */
  words: string
  summary: string
  /** Subcommands and flags. */
  next: { name: string; text: string }[]
  /** Flags with a value: their possible values, a folder, a file, or something else. */
  values: { name: string; kind: 'list' | 'folder' | 'file' | 'other'; list: readonly string[] }[]
}

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** `posttrain completion bash|zsh|fish`: a script that completes commands, options and their values. */
export function completionCommand(load: () => Promise<Command[]>): Command {
  return new Command('completion')
    .description('Print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(SHELLS))
    .addHelpText('after', `\n${INSTALL}`)
    .action(async (shell: (typeof SHELLS)[number]) => {
      const commands = (await load()).flatMap((command) => completionsOf(command, command.name()))
      process.stdout.write({ bash, zsh, fish }[shell](commands))
    })
}

const INSTALL = `Examples:
  bash   echo 'source <(posttrain completion bash)' >> ~/.bashrc
  zsh    posttrain completion zsh > "\${fpath[1]}/_posttrain"
  fish   posttrain completion fish > ~/.config/fish/completions/posttrain.fish`

function completionsOf(command: Command, words: string): Completion[] {
  const options = command.options.filter(({ hidden }) => !hidden)
  const own: Completion = {
    words,
    summary: command.description(),
    next: [
      ...command.commands.map((inner) => ({ name: inner.name(), text: inner.description() })),
      ...(command.registeredArguments[0]?.argChoices ?? []).map((name) => ({ name, text: '' })),
      ...options.map((option) => ({ name: option.long!, text: option.description })),
      ...command.options.filter(isOff).map((option) => ({ name: option.long!, text: option.description })),
      { name: '--help', text: 'Show the help' },
    ],
    values: options.filter(({ required }) => required).map(valuesOf),
  }
  return [own, ...command.commands.flatMap((inner) => completionsOf(inner, `${words} ${inner.name()}`))]
}

/** `--no-shuffle`, where shuffling is the default. */
function isOff(option: Option, _: number, all: readonly Option[]): boolean {
  if (!option.negate) return false
  const on = all.find(({ long }) => long === option.long?.replace(/^--no-/, '--'))
  return on !== undefined && flagOfOption(on)?.fallback === true
}

function valuesOf(option: Option): Completion['values'][number] {
  const { values, placeholder = /<(.*)>/.exec(option.flags)?.[1] ?? '' } = flagOfOption(option) ?? {}
  const words = placeholder.split('|').filter((word) => !/^[A-Z]/.test(word))
  const list = values ?? words
  const kind = /\bFILE\b/.test(placeholder) ? 'file' : /\bDIR\b/.test(placeholder) ? 'folder' : 'other'
  return { name: option.long!, kind: kind === 'other' && list.length > 0 ? 'list' : kind, list }
}

const namesOf = (commands: readonly Completion[]) =>
  commands
    .filter(({ words }) => !words.includes(' '))
    .map(({ words, summary }) => ({ name: words, text: summary }))

/** One case for each command; a value is completed by the flag before it. */
function bash(commands: readonly Completion[]): string {
  const cases = commands.map(({ words, next, values }) => {
    const flags = values.map(
      ({ name, kind, list }) =>
        `      ${name}) ${
          kind === 'folder'
            ? 'COMPREPLY=($(compgen -d -- "$current")); compopt -o filenames'
            : kind === 'file'
              ? `COMPREPLY=($(compgen ${list.length > 0 ? `-W ${quoted(list.join(' '))} ` : ''}-f -- "$current")); compopt -o filenames`
              : `COMPREPLY=($(compgen -W ${quoted(list.join(' '))} -- "$current"))`
        }; return ;;`,
    )
    const names = quoted(next.map(({ name }) => name).join(' '))
    return `    ${quoted(words)})\n      case "$before" in\n${flags.map((line) => `  ${line}\n`).join('')}      esac\n      COMPREPLY=($(compgen -W ${names} -- "$current")) ;;`
  })
  const groups = commands.filter(({ words }) => words.includes(' ')).map(({ words }) => quoted(words))
  return `# bash completion of posttrain
_posttrain() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" command="\${COMP_WORDS[1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W ${quoted(
      `${namesOf(commands)
        .map(({ name }) => name)
        .join(' ')} --help --version`,
    )} -- "$current"))
    return
  fi
  if [ "$COMP_CWORD" -gt 2 ]; then
    case "$command \${COMP_WORDS[2]}" in
      ${groups.join('|')}) command="$command \${COMP_WORDS[2]}" ;;
    esac
  fi
  case "$command" in
${cases.join('\n')}
  esac
}
complete -F _posttrain posttrain
`
}

function zsh(commands: readonly Completion[]): string {
  const described = (items: readonly { name: string; text: string }[]) =>
    items.map(({ name, text }) => quoted(`${name.replaceAll(':', '\\:')}:${text}`)).join(' ')
  const cases = commands.map(({ words, next, values }) => {
    const flags = values.map(
      ({ name, kind, list }) =>
        `        ${name}) ${kind === 'folder' ? '_files -/' : kind === 'file' ? '_files' : `compadd -- ${list.map(quoted).join(' ')}`}; return ;;`,
    )
    return `    ${quoted(words)})\n      case $words[CURRENT-1] in\n${flags.map((line) => `${line}\n`).join('')}      esac\n      items=(${described(next)}) ;;`
  })
  const groups = commands.filter(({ words }) => words.includes(' ')).map(({ words }) => quoted(words))
  return `#compdef posttrain
# zsh completion of posttrain
_posttrain() {
  local command=$words[2]
  local -a items
  if (( CURRENT == 2 )); then
    items=(${described(namesOf(commands))})
    _describe command items
    return
  fi
  if (( CURRENT > 3 )); then
    case "$command $words[3]" in
      ${groups.join('|')}) command="$command $words[3]" ;;
    esac
  fi
  case $command in
${cases.join('\n')}
  esac
  _describe option items
}
if [ "$funcstack[1]" = _posttrain ]; then _posttrain; else compdef _posttrain posttrain; fi
`
}

function fish(commands: readonly Completion[]): string {
  const lines = namesOf(commands).map(
    ({ name, text }) => `complete -c posttrain -f -n __fish_use_subcommand -a ${name} -d ${fishQuoted(text)}`,
  )
  for (const { words, next, values } of commands) {
    const seen = words.split(' ').map((word) => `__fish_seen_subcommand_from ${word}`)
    for (const { name, text } of next) {
      const value = values.find((value) => value.name === name)
      const argument =
        value === undefined
          ? '-f'
          : value.kind === 'folder'
            ? "-x -a '(__fish_complete_directories)'"
            : value.kind === 'file'
              ? '-r'
              : `-x${value.list.length > 0 ? ` -a ${fishQuoted(value.list.join(' '))}` : ''}`
      const what = name.startsWith('--') ? `-l ${name.slice(2)}` : `-a ${name}`
      lines.push(
        `complete -c posttrain ${argument} -n ${quoted(seen.join('; and '))} ${what} -d ${fishQuoted(text)}`,
      )
    }
  }
  return `# fish completion of posttrain\n${lines.join('\n')}\n`
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
const fishQuoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
