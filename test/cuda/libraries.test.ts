import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { findLibtorch, libraryNames } from '../../lib/libtorch/find/libtorch.js'
import { driverProblem, driverVersion } from '../../lib/libtorch/find/system.js'
import { missingLibraries } from '../../lib/libtorch/nvidia.js'
import { runNode } from '../helpers/child.js'

const title = 'the CUDA libraries open, with and without a device, and the CPU computes beside them'
const { libraries } = findLibtorch()
// Set-up fetches of NVIDIA's libraries only what the CPU needs; a wheel looks for them beside torch/.
const lacking = missingLibraries(libraries).filter(
  (name) => !existsSync(join(libraries, '../../nvidia/cu13/lib', name)),
)

if (existsSync(join(libraries, libraryNames().cuda)) && lacking.length === 0) {
  test(title, async (t) => {
    const program = fileURLToPath(new URL('../libtorch/open-child.js', import.meta.url))
    const { code, stdout, stderr } = await runNode([program], { env: { POSTTRAIN_CUDA: '1' } })
    t.is(code, 0, stderr)
    const { error, loss, state, info } = JSON.parse(stdout)
    t.is(error, undefined)
    t.true(Math.abs(loss - Math.log(2)) < 1e-6)
    t.like(state.verdict, { cuda: true, cudaError: '', mode: 'on' })
    const driver = driverVersion()
    if (driver === null) t.deepEqual(info.cuda.devices, [])
    else if (driverProblem(driver) === null) t.true(info.cuda.devices.length > 0)
  })
} else {
  test('this libtorch has no CUDA, or lacks what that needs: that its libraries open is not tested', (t) => {
    t.log(libraries, ...lacking)
    t.pass()
  })
  test.skip(title, () => undefined)
}
