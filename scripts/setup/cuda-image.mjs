// Writes the CUDA kernels into a C++ source of the core: `node scripts/setup/cuda-image.mjs OUTPUT.cpp`. Both builds run it.
// The source has the kernels' text, for NVRTC, and the fatbin that nvcc makes of it: the one in PATH, or POSTTRAIN_NVCC
// (`pip`: from NVIDIA's packages of PyPI, kept in .cache/; `off`: none). Without nvcc there is no fatbin and nothing is said:
// the core then asks NVRTC on the device's machine. So it does where an nvcc that nobody asked for fails.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Those of libtorch's own kernels for CUDA 13. */
const ARCHITECTURES = ['75', '80', '86', '89', '90', '100', '120']
/** PTX of the oldest and the newest, which the driver compiles for the rest. */
const PTX = ['75', '120']

const PACKAGES = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
]

const decimal = (architecture) => `${architecture.slice(0, -1)}.${architecture.slice(-1)}`

/** All kernels as one text that includes nothing. */
export function kernelText() {
  const { cudaKernels } = JSON.parse(readFileSync(join(root, 'native/sources.json'), 'utf8'))
  const texts = cudaKernels.map((path) =>
    readFileSync(join(root, path), 'utf8').replace('#pragma once\n', ''),
  )
  return texts.join('\n')
}

/** The compiler of NVIDIA's packages, which pip fetches once. */
function nvccOfPip() {
  const folder = join(root, `.cache/nvcc-${PACKAGES[0].split('==')[1]}`)
  const program = join(folder, 'nvidia/cu13/bin/nvcc')
  if (!existsSync(program)) {
    const args = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', folder, ...PACKAGES]
    const run = spawnSync('python3', args, { encoding: 'utf8' })
    if (run.status !== 0) throw new Error(`pip does not install nvcc:\n${run.stderr}`)
  }
  return program
}

/** The compiler that is there, or that was asked for. */
export function nvcc() {
  const asked = process.env.POSTTRAIN_NVCC || 'nvcc'
  if (asked === 'off') return null
  const program = asked === 'pip' ? nvccOfPip() : asked
  const run = spawnSync(program, ['--version'], { encoding: 'utf8' })
  if (run.status === 0) return { program, version: run.stdout }
  if (process.env.POSTTRAIN_NVCC) throw new Error(`POSTTRAIN_NVCC=${program} does not run`)
  return null
}

/** Compiles the text; `report` is what ptxas tells of registers and spills. */
export function compileFatbin(text, program) {
  const folder = mkdtempSync(join(tmpdir(), 'posttrain-cuda-'))
  try {
    writeFileSync(join(folder, 'kernels.cu'), text)
    const code = [
      ...ARCHITECTURES.map((of) => `arch=compute_${of},code=sm_${of}`),
      ...PTX.map((of) => `arch=compute_${of},code=compute_${of}`),
    ]
    const threads = String(Math.min(availableParallelism(), ARCHITECTURES.length))
    const args = [
      '-std=c++17',
      '-O3',
      '--compress-mode=size',
      '--threads',
      threads,
      '-Xptxas',
      '-v',
      '-fatbin',
    ]
    const run = spawnSync(
      program,
      [...args, ...code.flatMap((one) => ['-gencode', one]), '-o', 'kernels.fatbin', 'kernels.cu'],
      { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26 },
    )
    if (run.status !== 0) throw new Error(`nvcc does not compile the kernels of CUDA:\n${run.stderr}`)
    return { fatbin: readFileSync(join(folder, 'kernels.fatbin')), report: run.stderr }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The fatbin of this text by this nvcc, compiled once and kept. */
function keptFatbin(text, { program, version }) {
  const hash = createHash('sha256')
    .update(version)
    .update(readFileSync(fileURLToPath(import.meta.url)))
  const kept = join(root, '.cache/cuda', `${hash.update(text).digest('hex').slice(0, 32)}.fatbin`)
  if (!existsSync(kept)) {
    const { fatbin } = compileFatbin(text, program)
    mkdirSync(dirname(kept), { recursive: true })
    writeFileSync(`${kept}.${process.pid}`, fatbin)
    renameSync(`${kept}.${process.pid}`, kept)
  }
  return readFileSync(kept)
}

function sourceOf(text, fatbin) {
  const bytes = Buffer.alloc(Math.ceil((fatbin?.length ?? 0) / 8) * 8)
  fatbin?.copy(bytes)
  const words = Array.from(
    { length: bytes.length / 8 },
    (_, i) => `0x${bytes.readBigUInt64LE(8 * i).toString(16)}`,
  )
  return `// Written by scripts/setup/cuda-image.mjs.
#include "core/cuda_image.h"

namespace posttrain::core {
namespace {
${fatbin ? `alignas(16) const unsigned long long kFatbin[] = {${words.join(',')}};` : ''}
const char kText[] = R"posttrain(${text})posttrain";
}  // namespace

const CudaImage kCudaImage = {${fatbin ? 'kFatbin' : 'nullptr'}, "${fatbin ? ARCHITECTURES.map(decimal).join(' ') : ''}", kText};

}  // namespace posttrain::core
`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [output] = process.argv.slice(2)
  const text = kernelText()
  const compiler = nvcc()
  let fatbin = null
  try {
    fatbin = compiler && keptFatbin(text, compiler)
  } catch (error) {
    if (process.env.POSTTRAIN_NVCC) throw error
    // One that is in PATH by chance may be older than these architectures or than the C++ compiler.
    console.error(`posttrain: no kernels for CUDA in this build, which NVRTC compiles then: ${error.message}`)
  }
  mkdirSync(dirname(output), { recursive: true })
  writeFileSync(output, sourceOf(text, fatbin))
}
