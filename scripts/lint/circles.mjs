// Circles of imports, file by file: imports of types count, and a header is one with its source. A circle says that its
// files are one file, or that what two of them share has no place of its own yet.
import { importsOf, resolveImport, sourcesOf } from './sources.mjs'

/** A header and its source are one unit. */
const unitOf = ({ name, native }) => (native ? name.replace(/\.\w+$/, '') : name)

/** For each unit the units that it imports, each with the place of the first import. */
function graphOf(sources) {
  const names = new Set(sources.map(({ name }) => name))
  const units = new Map(sources.map((source) => [source.name, unitOf(source)]))
  const graph = new Map([...units.values()].map((unit) => [unit, new Map()]))
  for (const source of sources) {
    const from = unitOf(source)
    for (const { target, line } of importsOf(source)) {
      // Includes are written from native/ on, or from the folder of the file.
      const path = source.native && names.has(`native/${target}`) ? `native/${target}` : undefined
      const other = path ?? resolveImport(names, source.name, source.native ? `./${target}` : target)
      const to = other && units.get(other)
      // A header that includes itself has its guard; a script that imports itself is a circle.
      if (!to || (to === from && source.native)) continue
      const edges = graph.get(from)
      if (!edges.has(to)) edges.set(to, `${source.name}:${line}`)
    }
  }
  return graph
}

/** The shortest way from a unit back to itself. */
function circleFrom(graph, start) {
  const before = new Map()
  const queue = [start]
  for (const unit of queue) {
    for (const next of graph.get(unit).keys()) {
      if (next === start) {
        const way = [unit]
        while (way[0] !== start) way.unshift(before.get(way[0]))
        return way
      }
      if (before.has(next)) continue
      before.set(next, unit)
      queue.push(next)
    }
  }
  return undefined
}

/** Circles among the files of the folders named; one line for each, which begins with the place of an import to undo. */
export function importCircles(root, folders = ['lib', 'native', 'scripts', 'test', 'examples']) {
  const graph = graphOf(sourcesOf(root, folders))
  const told = new Set()
  const found = []
  for (const unit of [...graph.keys()].sort()) {
    // What stands in a circle that was told is told again once that one is undone.
    if (told.has(unit)) continue
    const way = circleFrom(graph, unit)
    if (!way) continue
    for (const each of way) told.add(each)
    const place = graph.get(unit).get(way[1] ?? unit)
    found.push(`${place}: a circle of imports: ${[...way, unit].join(' -> ')}`)
  }
  return found
}
