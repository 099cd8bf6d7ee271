// Platforms of a release, with the libtorch libraries of each.
import { constants } from '../setup/libtorch.mjs'

/**
 * `libraries`: the libraries that the core is linked to. Their dependencies are read from them on Linux; elsewhere
 * `more` lists them. `licenses`: files in licenses/.
 */
export const platforms = {
  'linux-x64': {
    manifest: { os: ['linux'], cpu: ['x64'], libc: ['glibc'] },
    libraries: ['libc10.so', 'libtorch_cpu.so'],
    licenses: ['pytorch.txt', 'libgomp.txt', 'mkl.txt'],
  },
  'linux-arm64': {
    manifest: { os: ['linux'], cpu: ['arm64'], libc: ['glibc'] },
    libraries: ['libc10.so', 'libtorch_cpu.so'],
    licenses: ['pytorch.txt', 'libgomp.txt'],
  },
  'darwin-arm64': {
    manifest: { os: ['darwin'], cpu: ['arm64'] },
    libraries: ['libc10.dylib', 'libtorch_cpu.dylib'],
    more: ['libomp.dylib'],
    licenses: ['pytorch.txt'],
  },
  'win32-x64': {
    manifest: { os: ['win32'], cpu: ['x64'] },
    libraries: ['c10.dll', 'torch_cpu.dll'],
    more: ['asmjit.dll', 'fbgemm.dll', 'libiomp5md.dll', 'uv.dll'],
    licenses: ['pytorch.txt', 'mkl.txt'],
  },
}

export const thisPlatform = `${process.platform}-${process.arch}`

/** Has libtorch's own version, so that a release of posttrain alone does not download the same 115 MB again. */
export const libtorchPackage = (platform) => ({
  name: `@posttrain/libtorch-${platform}`,
  version: constants.version,
})

/** URL of this repository, which npm requires in a package with provenance; unknown outside a release. */
export function repository() {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: name } = process.env
  return server && name ? { repository: { type: 'git', url: `git+${server}/${name}.git` } } : {}
}
