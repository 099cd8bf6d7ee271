import { join } from 'node:path'
import { Command } from 'commander'
import type * as z from 'zod'
import { PosttrainError } from '../errors.js'
import { text } from '../options/kinds.js'
import { describe, type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import type { AnyRun } from '../train/recipes.js'
import { addFlags, readFlags } from './flags.js'
import { INTERRUPTED, onInterrupt } from './interrupt.js'
import { type ModelOptions, modelFields } from './machine.js'
import { newRunFolder } from './new-run.js'
import { Progress } from './progress.js'
import { fitted, screen } from './terminal.js'
import { visible } from './visible.js'

/** Flags of every training command, beside the options of its recipe. */
export const machineFields = lazily((z) => ({
  ...modelFields(),
  json: option(z.boolean().default(false), 'One JSON event per line on stdout, and nothing else there'),
  quiet: option(z.boolean().default(false), 'Hide progress'),
}))

/** The flags of a recipe on the command line, where the model is a folder. */
export function commandOptions(recipe: OptionSet, more: () => z.ZodRawShape = () => ({})): OptionSet {
  const schema = lazily((z) => {
    const { model: given, signal: _signal, ...fields } = recipe.schema().shape
    const model = option(
      z.string(),
      describe(given as z.ZodType)?.text ?? 'Folder of the model, or org/name on the Hub',
      text('DIR'),
    )
    const output = option(
      z.string().optional(),
      `${describe(fields.output as z.ZodType)?.text} (default: runs/${recipe.name}-DATE-N)`,
      text('DIR'),
    )
    return z.object({ model, ...fields, output, ...more(), ...machineFields() })
  })
  return { ...recipe, schema }
}

export interface MachineOptions extends ModelOptions {
  json: boolean
  quiet: boolean
  output: string
}

/** Starts the run of a command; `close` releases what it opened. */
export type Start = (
  machine: MachineOptions,
  recipeOptions: Record<string, unknown>,
) => Promise<{ run: AnyRun; close: () => Promise<void> }>

/** A training command: flags from the recipe's schema, progress or JSON lines, and a Ctrl-C that saves. */
export function trainingCommand(summary: string, set: OptionSet, start: Start): Command {
  const command = new Command(set.name).description(summary)
  return addFlags(command, set).action(async () => {
    let isNew = false
    const { options, given } = await readFlags(command, set, (given) => {
      // Resuming or replacing a run needs its name.
      isNew = given.output === undefined && given.resume !== true && given.overwrite !== true
      if (isNew) given.output = join('runs', set.name)
    })
    if (isNew) given.output = options.output = newRunFolder(set.name)
    const recipeOptions = Object.fromEntries(
      Object.entries(given).filter(([name]) => name !== 'model' && !(name in machineFields())),
    )
    const machine = options as unknown as MachineOptions
    if (isNew && !machine.quiet && !machine.json) process.stderr.write(`Output: ${visible(machine.output)}\n`)
    process.exitCode = await train(set.name, machine, (signal) =>
      start(machine, { ...recipeOptions, signal }),
    )
  })
}

async function train(
  name: string,
  machine: MachineOptions,
  start: (signal: AbortSignal) => ReturnType<Start>,
): Promise<number> {
  const { json, quiet, output } = machine
  const progress = new Progress(quiet || json ? { write: () => undefined } : screen())
  let run: AnyRun | null = null
  let saved: string | undefined
  let stopped = false
  let unwritable: PosttrainError | null = null
  let stopping = false
  const leave = () => {
    progress.clear()
    if (stopping && !quiet) {
      const left = saved === undefined ? 'no checkpoint was saved' : `the newest checkpoint is ${saved}`
      say(`posttrain ${name}: ended at once; ${left}`)
    }
  }
  process.once('exit', leave)
  const abort = new AbortController()
  const off = onInterrupt(() => {
    if (!run) process.exit(INTERRUPTED)
    // Before its first step a run has nothing to save.
    if (run.phase === 'reading' || run.phase === 'reference') return abort.abort()
    stopping = true
    run.stop()
    // The terminal has written ^C behind the line.
    if (screen().isTTY && !quiet) process.stderr.write('\r\u001b[K')
    const how = 'Stopping after this step; press Ctrl-C again to exit at once'
    if (json && !quiet) say(how)
    progress.line(how)
  })
  progress.enter('loading')
  const ticking = setInterval(() => {
    if (run) progress.enter(run.phase)
    progress.tick()
  }, 200)
  try {
    const { run: started, close } = await start(abort.signal)
    run = started
    progress.enter(run.phase)
    try {
      for await (const event of run) {
        if (!json) progress.show(event)
        else if (unwritable === null) {
          // A reader that is gone, such as head -1, stops the run as a signal does: it saves.
          unwritable = await print(JSON.stringify(event)).then(() => null, asError)
          if (unwritable) run.stop()
        }
        if (event.type === 'checkpoint') saved = event.path
        if (event.type === 'end') stopped = event.reason === 'stopped'
      }
    } finally {
      await close()
    }
  } catch (error) {
    if (!abort.signal.aborted) throw error
    progress.clear()
    say(`posttrain ${name}: interrupted before its first step`)
    return INTERRUPTED
  } finally {
    clearInterval(ticking)
    progress.clear()
    process.off('exit', leave)
    off()
  }
  if (unwritable && !isClosedPipe(unwritable)) throw unwritable
  if (!stopped) return 0
  say(
    `posttrain ${name}: interrupted and saved in ${saved ?? output}; resume with the same command and --resume --output ${output}`,
  )
  return INTERRUPTED
}

const say = (text: string) => process.stderr.write(`${fitted(process.stderr, visible(text))}\n`)

const asError = (error: PosttrainError) => error

const isClosedPipe = ({ cause }: PosttrainError) => (cause as NodeJS.ErrnoException).code === 'EPIPE'

/** Prints a line and waits for a slow reader; a closed pipe ends the command. */
export function print(line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(`${line}\n`, (error) => {
      if (error)
        reject(new PosttrainError('ERR_IO', `Cannot write to stdout: ${error.message}`, { cause: error }))
      else resolve()
    })
  })
}
