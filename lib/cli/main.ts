#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { onHubEvent } from '../files/hub/events.js'
import { RECIPE_NAMES, RECIPES } from '../train/recipes.js'
import { prepare, report } from './program.js'
import { screen } from './terminal.js'
import { visible } from './visible.js'

/** Commands, loaded on use, so that `--help` is quick. */
const COMMANDS: { name: string; group: string; summary: string; load: () => Promise<Command> }[] = [
  ...RECIPE_NAMES.map((name) => ({
    name,
    group: 'Train',
    summary: RECIPES[name].summary,
    load: async () => (await import('./recipe.js')).recipeCommand(name),
  })),
  {
    name: 'merge',
    group: 'Models',
    summary: 'Merge an adapter into the weights of its base',
    load: async () => (await import('./merge.js')).mergeCommand(),
  },
  {
    name: 'push',
    group: 'Models',
    summary: 'Upload a model or adapter to the Hub',
    load: async () => (await import('./push.js')).pushCommand(),
  },
  {
    name: 'generate',
    group: 'Models',
    summary: 'Generate completions of prompts',
    load: async () => (await import('./generate.js')).generateCommand(),
  },
  {
    name: 'chat',
    group: 'Models',
    summary: 'Chat with a model',
    load: async () => (await import('./chat.js')).chatCommand(),
  },
  {
    name: 'distill',
    group: 'Data',
    summary: 'Generate training rows with a stronger model',
    load: async () => (await import('./distill.js')).distillCommand(),
  },
  {
    name: 'inspect',
    group: 'Data',
    summary: 'Show which tokens of a data file would be trained',
    load: async () => (await import('./inspect.js')).inspectCommand(),
  },
  {
    name: 'estimate',
    group: 'Machine',
    summary: 'Estimate the memory and time of a run before it starts',
    load: async () => (await import('./estimate.js')).estimateCommand(),
  },
  {
    name: 'doctor',
    group: 'Machine',
    summary: 'Check this machine and say how to fix what is missing',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
  {
    name: 'libtorch',
    group: 'Machine',
    summary: 'Manage libtorch: install, list and remove it',
    load: async () => (await import('./libtorch.js')).libtorchCommand(),
  },
  {
    name: 'completion',
    group: 'Machine',
    summary: 'Print a script that completes commands and options in a shell',
    load: async () => (await import('./completion.js')).completionCommand(loadAll),
  },
]

/** Shows transfers from and to the Hub on stderr; stdout is kept for --json. */
async function showHub(): Promise<void> {
  const { HubProgress } = await import('./hub-progress.js')
  const progress = new HubProgress(screen())
  onHubEvent((event) => progress.show(event))
}

/** All commands, for the completion. */
async function loadAll(): Promise<Command[]> {
  return await Promise.all(COMMANDS.map(({ load }) => load()))
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')).version
}

async function main(given: string[]): Promise<number> {
  // `help sft` and `version`, as other programs have them.
  const argv =
    given[0] === 'help' ? [...given.slice(1, 2), '--help'] : given[0] === 'version' ? ['--version'] : given
  const program = new Command('posttrain')
    .description('Post-train language models in your own process. No Python.')
    .version(version(), '-v, --version', 'Print the version')
    .helpCommand(false)
    .usage('<command> [options]')
  let active = program
  try {
    const wanted = COMMANDS.find(({ name }) => name === argv[0])
    if (wanted) {
      active = await wanted.load()
      program.addCommand(active)
    } else {
      for (const { name, group, summary } of COMMANDS) {
        program.addCommand(new Command(name).description(summary).helpGroup(`${group}:`))
      }
      program.addHelpText('after', "\nRun 'posttrain <command> --help' for its options.")
    }
    prepare(program)
    program.hook('preAction', (_, command) => {
      active = command
    })
    if (!argv.includes('--quiet')) await showHub()
    if (argv.length === 0) program.outputHelp()
    else await program.parseAsync(argv, { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    return report(error, active)
  }
}

// The first failure of stdout that is no closed pipe, such as that of `head`. A closed terminal has no stderr either.
let unwritten: NodeJS.ErrnoException | null = null
const failed = (error?: NodeJS.ErrnoException | null) => {
  if (error && error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') unwritten ??= error
}
process.stdout.on('error', failed)
process.stderr.on('error', () => undefined)

const argv = process.argv.slice(2)
main(argv).then((code) => {
  process.stdout.write('', (error) => {
    failed(error)
    const lost = code === 0 ? unwritten : null
    const name = ['posttrain', ...argv.slice(0, 1)].join(' ')
    if (lost) process.stderr.write(`${visible(name)}: Cannot write to stdout: ${lost.message}\n`)
    // Not process.exitCode alone: a reward function that timed out may still hold timers and sockets.
    process.stderr.write('', () => process.exit(lost ? 1 : code))
  })
})
