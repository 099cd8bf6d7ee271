// What nvcc makes of our kernels of CUDA, for every architecture; left out where there is no nvcc.
import test from 'ava'

const script = new URL('../../../scripts/setup/cuda-image.mjs', import.meta.url)
const { compileFatbin, kernelText, nvcc } = await import(script.href)
const compiler = nvcc() as { program: string } | null

;(compiler ? test : test.skip)('no kernel spills registers, nor takes more than 128', async (t) => {
  t.timeout(300_000)
  const { report } = compileFatbin(kernelText(), compiler!.program) as { report: string }
  const kernels = report.split('Compiling entry function ').slice(1)
  t.true(kernels.length > 100, `${kernels.length} kernels`)
  for (const text of kernels) {
    const name = text.slice(0, text.indexOf('\n'))
    t.regex(text, /\b0 bytes spill stores, 0 bytes spill loads/, name)
    t.true(Number(/Used (\d+) registers/.exec(text)?.[1]) <= 128, name)
  }
})
