// What nvcc makes of our kernels of CUDA, for every architecture; left out where there is no nvcc.
import { spawnSync } from 'node:child_process'
import test from 'ava'

const nvcc = process.env.POSTTRAIN_NVCC || 'nvcc'
const hasCompiler = spawnSync(nvcc, ['--version']).status === 0
const script = new URL('../../../scripts/setup/cuda-image.mjs', import.meta.url)

;(hasCompiler ? test : test.skip)('no kernel spills registers, nor takes more than 128', async (t) => {
  t.timeout(300_000)
  const { compileFatbin, kernelText } = await import(script.href)
  const { report } = compileFatbin(kernelText(), nvcc) as { report: string }
  const kernels = report.split('Compiling entry function ').slice(1)
  t.true(kernels.length > 100, `${kernels.length} kernels`)
  for (const text of kernels) {
    const name = text.slice(0, text.indexOf('\n'))
    t.regex(text, /\b0 bytes spill stores, 0 bytes spill loads/, name)
    t.true(Number(/Used (\d+) registers/.exec(text)?.[1]) <= 128, name)
  }
})
