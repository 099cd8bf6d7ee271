import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The command line, as an argument of node. */
export const mainProgram = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

interface ChildOptions {
  /** Added to the environment; undefined takes a variable away. */
  env?: NodeJS.ProcessEnv
  input?: string
  /** Working folder; default that of this process. */
  cwd?: string
  /** Kills the child with SIGKILL after so long. */
  timeoutMs?: number
  /** Called with all of stdout so far, whenever more of it comes. */
  onOutput?: (stdout: string, child: ChildProcess) => void
}

/** Runs a program until it ends. */
export function runChild(
  command: string,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<Ended> {
  const { env, input = '', cwd, timeoutMs, onOutput } = options
  const child = spawn(command, args, {
    ...(cwd !== undefined && { cwd }),
    env: { ...process.env, ...env },
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs, killSignal: 'SIGKILL' }),
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    onOutput?.(stdout, child)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  // A child that ends without reading its input breaks the pipe.
  child.stdin.on('error', () => undefined).end(input)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

/** Runs node with these arguments: a compiled file, or what else it takes. */
export const runNode = (args: readonly string[], options?: ChildOptions) =>
  runChild(process.execPath, args, options)
