import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** A process, told from every other: also from those of other hosts, other boots and other containers. */
export interface Owner {
  host: string
  /** Boot id of the host; empty where the system has none. */
  boot: string
  /** PID namespace, in which `pid` counts; empty where the system has none. */
  namespace: string
  pid: number
  /** Start of the process in clock ticks since boot; empty if unknown. A pid is given again, with another start. */
  start: string
}

/** This process. */
export function thisProcess(): Owner {
  own ??= {
    host: hostname(),
    boot: orEmpty(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    namespace: orEmpty(() => readlinkSync('/proc/self/ns/pid')),
    pid: process.pid,
    start: statusOf('self')?.start ?? '',
  }
  return own
}

let own: Owner | null = null

/** Short hash of where the pid of a process counts: its host, boot and PID namespace. */
export function placeOf({ host, boot, namespace }: Owner): string {
  return createHash('sha256').update(`${host}\0${boot}\0${namespace}`).digest('hex').slice(0, 8)
}

/** Whether a process of this place (`placeOf`) runs. */
export function isAlive({ pid, start }: Pick<Owner, 'pid' | 'start'>): boolean {
  try {
    if (pid <= 0) return false
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: alive, and another user's.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  // A container may see the /proc of its host, where the pids are others.
  if (orEmpty(() => readlinkSync('/proc/self')) !== String(process.pid)) return true
  const status = statusOf(pid)
  if (status === null) return true
  return status.state !== 'Z' && status.state !== 'X' && (start === '' || status.start === start)
}

/** State and start of a process in Linux; null where that cannot be read. */
function statusOf(pid: number | 'self'): { state: string; start: string } | null {
  const text = orEmpty(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  // The name of the program, in parentheses, may hold anything; state is field 3, starttime field 22.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, start] = [fields[0], fields[19]]
  return state && start ? { state, start } : null
}

function orEmpty(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}
