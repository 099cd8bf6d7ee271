// Packs the published tarballs into .cache/package/ or --out.
//   node scripts/package/pack.mjs libtorch [--local] [--out DIR]   from POSTTRAIN_LIBTORCH, for this platform
//   node scripts/package/pack.mjs main [--out DIR]                 from dist/ and prebuilds/
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensureLibtorch } from '../setup/libtorch.mjs'
import { SetupError } from '../setup/process.mjs'
import { stageLibtorch } from './libtorch.mjs'
import { stageMain } from './main.mjs'
import { pack } from './npm.mjs'
import { thisPlatform } from './platforms.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
export const packageFolder = join(root, '.cache/package')

/** Packs libtorch, or reuses a tarball with the same content: compressing 440 MB takes a while. */
export async function packLibtorch({ tree, out = packageFolder, local = false }) {
  const folder = join(packageFolder, `libtorch-${thisPlatform}`)
  const kept = `${folder}.json`
  const { refusal, version } = await stageLibtorch({ tree, folder, local })
  const content = ['manifest.json', 'package.json']
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('')
  if (existsSync(kept)) {
    const before = JSON.parse(readFileSync(kept, 'utf8'))
    const same = before.content === content && before.packed.file.startsWith(`${out}/`)
    if (same && statSync(before.packed.file, { throwIfNoEntry: false })?.size === before.packed.bytes) {
      return { ...before.packed, refusal, version }
    }
  }
  const packed = pack(folder, out)
  writeFileSync(kept, JSON.stringify({ content, packed }))
  return { ...packed, refusal, version }
}

export function packMain({ out = packageFolder } = {}) {
  const folder = join(packageFolder, 'posttrain')
  stageMain(folder)
  return pack(folder, out)
}

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values, positionals } = parseArgs({
      options: { local: { type: 'boolean', default: false }, out: { type: 'string' } },
      allowPositionals: true,
    })
    const out = values.out ? { out: resolve(values.out) } : {}
    let packed
    switch (positionals[0]) {
      case 'libtorch':
        packed = await packLibtorch({ tree: await ensureLibtorch(), local: values.local, ...out })
        break
      case 'main':
        packed = packMain(out)
        break
      default:
        throw new SetupError('Name the package to pack: libtorch or main.')
    }
    console.log(
      `packed: ${packed.file} ${megabytes(packed.bytes)}, ${megabytes(packed.unpackedBytes)} unpacked, ${packed.files} files`,
    )
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    process.stderr.write(`posttrain: ${error.message}\n`)
    process.exitCode = 1
  }
}
