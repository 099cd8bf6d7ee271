// The directions in which rooms may use each other (ARCHITECTURE.md); prints each line that goes against them.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** lib: a room may import its own files and rooms of a lower rank. */
const ranks = [
  ['errors', 'random'],
  ['options', 'files'],
  ['libtorch'],
  ['addon'],
  ['losses', 'data'],
  ['models'],
  ['generate', 'optim'],
  ['rollout', 'distill'],
  ['train'],
  ['estimate'],
  ['cli'],
  ['index'],
]

/** native: a room may include its own files and those of the rooms named. */
const includes = {
  core: [],
  nn: ['core'],
  models: ['nn', 'core'],
  // Fused output losses work on parameters; an optimizer keeps the decoder it updates.
  losses: ['nn', 'core'],
  optim: ['models', 'nn', 'core'],
  rollout: ['core'],
  generate: ['models', 'nn', 'core'],
  train: ['models', 'losses', 'nn', 'core'],
  bindings: ['train', 'generate', 'rollout', 'optim', 'losses', 'models', 'nn', 'core'],
  loader: [],
  // Linked into a second core that only tests open.
  test_hooks: ['bindings', 'train', 'generate', 'optim', 'losses', 'models', 'nn', 'core'],
}
const mayUseNodeApi = ['bindings', 'loader', 'test_hooks']
const nodeApi = /^(napi|node_api|js_native_api)/

function* files(folder, pattern) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* files(path, pattern)
    else if (pattern.test(entry.name)) yield path
  }
}

const lines = (path) => readFileSync(path, 'utf8').split('\n')

function* checkLib(root) {
  const lib = join(root, 'lib')
  const roomOf = (path) =>
    relative(lib, path)
      .split(sep)[0]
      .replace(/\.(ts|m?js)$/, '')
  const rankOf = (room) => ranks.findIndex((rooms) => rooms.includes(room))
  for (const path of files(lib, /\.(ts|mjs)$/)) {
    const room = roomOf(path)
    const where = relative(root, path)
    if (rankOf(room) < 0) yield `${where}: the room ${room} has no place in the directions`
    for (const [n, line] of lines(path).entries()) {
      const target = /(?:\bfrom|\bimport\(|^import)\s*'(\.[^']*)'/.exec(line)?.[1]
      if (!target) continue
      const other = roomOf(resolve(dirname(path), target))
      if (other === room || (rankOf(other) >= 0 && rankOf(other) < rankOf(room))) continue
      yield `${where}:${n + 1}: ${room} may not import ${other}`
    }
  }
}

function* checkNative(root) {
  const native = join(root, 'native')
  for (const path of files(native, /\.(h|cpp)$/)) {
    const room = relative(native, path).split(sep)[0]
    const where = relative(root, path)
    if (!includes[room]) yield `${where}: the room ${room} has no place in the directions`
    for (const [n, line] of lines(path).entries()) {
      const target = /^\s*#\s*include\s*["<]([^">]+)[">]/.exec(line)?.[1]
      if (!target) continue
      const here = `${where}:${n + 1}`
      if (nodeApi.test(target) && !mayUseNodeApi.includes(room)) {
        yield `${here}: ${room} may not include Node-API (${target})`
      }
      if (target === 'torch/torch.h')
        yield `${here}: torch/torch.h triples the compile time; include what is used`
      const other = target.split('/')[0]
      if (line.includes('"') && includes[other] && other !== room && !includes[room]?.includes(other)) {
        yield `${here}: ${room} may not include ${other}`
      }
    }
  }
}

export function wrongDirections(root) {
  return [...checkLib(root), ...checkNative(root)]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wrong = wrongDirections(fileURLToPath(new URL('../..', import.meta.url)))
  for (const line of wrong) console.error(line)
  console.log(`directions: ${wrong.length} wrong`)
  process.exitCode = wrong.length === 0 ? 0 : 1
}
