#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { AbortError } from '../errors.js'
import { onHubEvent } from '../files/hub/events.js'
import { RECIPE_NAMES, RECIPES } from '../train/recipes.js'
import { UsageError } from './flags.js'
import { INTERRUPTED } from './interrupt.js'

/** Commands, loaded on use, so that `--help` is quick. */
const COMMANDS: { name: string; summary: string; load: () => Promise<Command> }[] = [
  ...RECIPE_NAMES.map((name) => ({
    name,
    summary: RECIPES[name].summary,
    load: async () => (await import('./recipe.js')).recipeCommand(name),
  })),
  {
    name: 'merge',
    summary: 'Merge an adapter into the weights of its base',
    load: async () => (await import('./merge.js')).mergeCommand(),
  },
  {
    name: 'push',
    summary: 'Upload a model or adapter to the Hub',
    load: async () => (await import('./push.js')).pushCommand(),
  },
  {
    name: 'generate',
    summary: 'Generate completions of prompts',
    load: async () => (await import('./generate.js')).generateCommand(),
  },
  {
    name: 'chat',
    summary: 'Chat with a model',
    load: async () => (await import('./chat.js')).chatCommand(),
  },
  {
    name: 'distill',
    summary: 'Generate training rows with a stronger model',
    load: async () => (await import('./distill.js')).distillCommand(),
  },
  {
    name: 'inspect',
    summary: 'Show which tokens of a data file would be trained',
    load: async () => (await import('./inspect.js')).inspectCommand(),
  },
  {
    name: 'estimate',
    summary: 'Estimate the memory and time of a run before it starts',
    load: async () => (await import('./estimate.js')).estimateCommand(),
  },
  {
    name: 'doctor',
    summary: 'Check this machine and say how to fix what is missing',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
  {
    name: 'libtorch',
    summary: 'Manage libtorch: install, list and remove it',
    load: async () => (await import('./libtorch.js')).libtorchCommand(),
  },
]

/** Shows transfers from and to the Hub on stderr; stdout is kept for --json. */
async function showHub(): Promise<void> {
  const { HubProgress } = await import('./hub-progress.js')
  const progress = new HubProgress(process.stderr)
  onHubEvent((event) => progress.show(event))
}

async function main(argv: string[]): Promise<number> {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  const program = new Command('posttrain')
    .description('Post-train language models. No Python.')
    .version(version)
    .exitOverride()
  const wanted = COMMANDS.find(({ name }) => name === argv[0])
  if (wanted) {
    const command = (await wanted.load()).exitOverride()
    for (const inner of command.commands) inner.exitOverride()
    program.addCommand(command)
  } else {
    for (const { name, summary } of COMMANDS) program.command(name).description(summary)
    program.addHelpText('after', '\nposttrain <command> --help lists the options of a command.')
  }
  if (!argv.includes('--quiet')) await showHub()
  try {
    await program.parseAsync(argv, { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    // Commander has already printed its own sentence.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (error instanceof AbortError) return INTERRUPTED
    process.stderr.write(`posttrain: ${error instanceof Error ? error.message : String(error)}\n`)
    if (process.env.POSTTRAIN_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    return error instanceof UsageError ? 2 : 1
  }
}

// A closed pipe, such as `head`: the writer gets the error in its own callback. A closed terminal has no stderr either.
process.stdout.on('error', () => undefined)
process.stderr.on('error', () => undefined)

main(process.argv.slice(2)).then((code) => {
  // Not process.exitCode alone: a reward function that timed out may still hold timers and sockets.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)))
})
