import { loadHooks } from '../bindings/hooks.js'

/**
 * Makes a CUDA device of the CPU for this process: the calls of CUDA go to the stand-ins of native/test_hooks, so that
 * models are in bfloat16 and every recipe takes the paths of a device. To be called before anything else opens the core.
 */
export async function useStandInDevice(): Promise<void> {
  process.env.POSTTRAIN_KERNELS = 'cuda'
  const { core } = await loadHooks()
  const { info, createBase } = core
  const device = {
    name: 'stand-in',
    capability: '8.0',
    totalBytes: 24e9,
    allocatedBytes: 0,
    reservedBytes: 0,
  }
  Object.assign(core, {
    info: async () => ({ ...(await info()), cuda: { opened: true, devices: [device] } }),
    createBase: (...[spec, options]: Parameters<typeof createBase>) =>
      createBase(spec, { ...options, device: 'cpu' }),
  })
}
