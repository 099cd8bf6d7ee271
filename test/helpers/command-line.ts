import type { ChildProcess } from 'node:child_process'
import { type Ended, mainProgram, runChild } from './child.js'
import { newFolder } from './scratch.js'

/** Flags of every command that computes with a model; they are no options of its recipe. */
export const MACHINE_FLAGS = [
  'adapter',
  'device',
  'dtype',
  'quantize',
  'threads',
  'deterministic',
  'json',
  'quiet',
]

/** Working folder of the commands: a run without --output writes there. */
const cwd = newFolder()

/** Runs the command line in a process of its own; `onLine` sees each line of stdout as it comes. */
export function posttrain(
  argv: readonly string[],
  onLine: (line: string, child: ChildProcess) => void = () => undefined,
  shell?: string,
): Promise<Ended> {
  let seen = 0
  const onOutput = (stdout: string, child: ChildProcess) => {
    for (let end = stdout.indexOf('\n', seen); end >= 0; end = stdout.indexOf('\n', seen)) {
      onLine(stdout.slice(seen, end), child)
      seen = end + 1
    }
  }
  const command = [process.execPath, mainProgram, ...argv]
  return shell
    ? runChild('sh', ['-c', `${shell}; exec "$0" "$@"`, ...command], { onOutput, cwd })
    : runChild(command[0]!, command.slice(1), { onOutput, cwd })
}

/** The events of a --json run; throws where a line is something else. */
export function eventsIn(stdout: string): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}
