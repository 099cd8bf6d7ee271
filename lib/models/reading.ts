import type { Core } from '../addon/addon.js'
import { call } from '../addon/call.js'
import type { Base } from './base.js'
import { Role } from './role.js'

/**
 * Creates a role on a new base and reads its tensors, on the torch thread, while `others` reads and checks what the
 * JavaScript thread can.
 */
export async function readRole<T>(
  base: Base,
  files: Parameters<Core['loadTensors']>[1],
  others: () => Promise<T>,
  { signal, ...options }: { score?: { seed?: number }; signal?: AbortSignal | undefined },
): Promise<[Role, T]> {
  const { core } = base
  const role = await Role.create(base, options)
  try {
    const tensors = call(core, (cancel) => core.loadTensors(role.handle, files, cancel), signal)
    const [read] = await Promise.all([others(), tensors])
    return [role, read]
  } catch (error) {
    await role.dispose()
    throw error
  }
}
