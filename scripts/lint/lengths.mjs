// Lengths of files and functions: a longer one holds two ideas. Files that a command makes say @generated at their top.
import ts from 'typescript'
import { functionsOf } from './native-functions.mjs'
import { lineOf, parse, sourcesOf } from './sources.mjs'

const LIMITS = { script: 300, native: 400, test: 400, function: 100 }

function scriptFunctions(source) {
  const tree = parse(source)
  const found = []
  const visit = (node) => {
    if (ts.isFunctionLike(node) && node.body) {
      const name =
        node.name?.getText(tree) ?? node.parent.name?.getText?.(tree) ?? 'a function without a name'
      found.push({
        name,
        line: lineOf(tree, node.getStart(tree)),
        lines: lineOf(tree, node.end) - lineOf(tree, node.getStart(tree)) + 1,
      })
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return found
}

const limitOf = ({ name, native }) =>
  name.startsWith('test/') ? LIMITS.test : native ? LIMITS.native : LIMITS.script

/** Files and functions above the limits, of the folders named. */
export function tooLong(root, folders = ['lib', 'native', 'scripts', 'test', 'examples']) {
  const found = []
  for (const source of sourcesOf(root, folders)) {
    if (source.generated) continue
    const lines = source.text.replace(/\n$/, '').split('\n').length
    if (lines > limitOf(source)) {
      found.push(
        `${source.name}:${limitOf(source) + 1}: the file has ${lines} lines; at most ${limitOf(source)}`,
      )
    }
    for (const each of source.native ? functionsOf(source) : scriptFunctions(source)) {
      if (each.unclear) found.push(`${source.name}:${each.line}: ${each.unclear}`)
      else if (each.lines > LIMITS.function) {
        found.push(
          `${source.name}:${each.line}: ${each.name} has ${each.lines} lines; at most ${LIMITS.function}`,
        )
      }
    }
  }
  return found
}
