// The directions in which rooms may use each other (ARCHITECTURE.md); prints each line that goes against them.
// As a script it checks the other rules about the form of the house too: circles and lengths.
import { posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { importCircles } from './circles.mjs'
import { tooLong } from './lengths.mjs'
import { importsOf, report, sourcesOf } from './sources.mjs'

/** lib: a room may import its own files and rooms of a lower rank. */
const ranks = [
  ['errors', 'random'],
  ['arguments'],
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
  device: ['core'],
  nn: ['device', 'core'],
  models: ['nn', 'device', 'core'],
  // Fused output losses work on parameters; an optimizer keeps the decoder it updates.
  losses: ['nn', 'device', 'core'],
  optim: ['models', 'nn', 'core'],
  rollout: ['core'],
  generate: ['models', 'nn', 'device', 'core'],
  train: ['models', 'losses', 'nn', 'device', 'core'],
  bindings: ['train', 'generate', 'rollout', 'optim', 'losses', 'models', 'nn', 'device', 'core'],
  // Not linked with the core: only header-only code.
  loader: ['core'],
  // Linked into a second core that only tests open.
  test_hooks: ['bindings', 'train', 'generate', 'optim', 'losses', 'models', 'nn', 'device', 'core'],
}
/**
 * The rooms that may ask on which device a tensor lies: elsewhere the kernels of the decoder know. An optimizer's
 * moments in 8 bits are of no decoder.
 */
const knowDevices = ['core', 'device', 'optim', 'test_hooks']
const mayUseNodeApi = ['bindings', 'loader', 'test_hooks']
const nodeApi = /^(napi|node_api|js_native_api)/

/** The room of a file in lib/ or native/: the folder below it, or the file itself. */
const roomOf = (name) => name.split('/')[1].replace(/\.(ts|m?js)$/, '')
const rankOf = (room) => ranks.findIndex((rooms) => rooms.includes(room))

function* checkLib(root) {
  for (const source of sourcesOf(root, ['lib'])) {
    const room = roomOf(source.name)
    if (rankOf(room) < 0) yield `${source.name}: the room ${room} has no place in the directions`
    for (const { target, line } of importsOf(source)) {
      const path = posix.join(posix.dirname(source.name), target)
      if (!target.startsWith('.')) continue
      const other = path.startsWith('lib/') ? roomOf(path) : path
      if (other === room || (rankOf(other) >= 0 && rankOf(other) < rankOf(room))) continue
      yield `${source.name}:${line}: ${room} may not import ${other}`
    }
  }
}

function* checkNative(root) {
  for (const source of sourcesOf(root, ['native'])) {
    const room = roomOf(source.name)
    if (!includes[room]) yield `${source.name}: the room ${room} has no place in the directions`
    for (const { target, line, quoted } of importsOf(source)) {
      const here = `${source.name}:${line}`
      if (nodeApi.test(target) && !mayUseNodeApi.includes(room)) {
        yield `${here}: ${room} may not include Node-API (${target})`
      }
      if (target === 'torch/torch.h')
        yield `${here}: torch/torch.h triples the compile time; include what is used`
      const other = target.split('/')[0]
      if (quoted && includes[other] && other !== room && !includes[room]?.includes(other)) {
        yield `${here}: ${room} may not include ${other}`
      }
    }
  }
}

function* checkDevices(root) {
  for (const { name, text } of sourcesOf(root, ['native'])) {
    if (knowDevices.includes(roomOf(name))) continue
    for (const [i, line] of text.split('\n').entries())
      if (/\bis_(cpu|cuda)\(/.test(line))
        yield `${name}:${i + 1}: ${roomOf(name)} may not ask for the device of a tensor; native/device knows it`
  }
}

/** Copies between host and device are made in one file, which counts them. */
function* checkTransfers(root) {
  const copies = /\.item<|\.cpu\(\)|\.cuda\(\)|\.to\((at::)?kCPU|\.to\([^;()]*\bdevice(\(\)|_|\b)/
  for (const { name, text } of sourcesOf(root, ['native'])) {
    if (name === 'native/core/transfer.cpp' || roomOf(name) === 'test_hooks') continue
    for (const [i, line] of text.split('\n').entries())
      if (copies.test(line))
        yield `${name}:${i + 1}: copies between host and device are those of core/transfer.h, which are counted`
  }
}

export function wrongDirections(root) {
  return [...checkLib(root), ...checkNative(root), ...checkDevices(root), ...checkTransfers(root)]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  report({ directions: wrongDirections, circles: importCircles, lengths: tooLong })
}
