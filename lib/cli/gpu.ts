import { spawnSync } from 'node:child_process'
import { driverVersion } from '../libtorch/find/system.js'

/** The NVIDIA driver and its devices. */
export interface Gpus {
  /** Version; null without a driver. */
  driver: string | null
  devices: { name: string; totalBytes: number; freeBytes: number }[]
}

/** Asks nvidia-smi, or only the kernel if there is none, as in some containers. */
export function askDriver(): Gpus {
  const query = '--query-gpu=driver_version,memory.total,memory.free,name'
  const run = spawnSync('nvidia-smi', [query, '--format=csv,noheader,nounits'], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  const devices = []
  let driver = driverVersion()
  for (const line of run.status === 0 ? run.stdout.trim().split('\n') : []) {
    const [version, total, free, ...name] = line.split(',').map((part) => part.trim())
    if (version === undefined || name.length === 0) continue
    driver ??= version
    devices.push({
      name: name.join(', '),
      totalBytes: Number(total) * 2 ** 20,
      freeBytes: Number(free) * 2 ** 20,
    })
  }
  return { driver, devices }
}
