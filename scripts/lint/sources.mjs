// The source files that the rules about the house read, and what each imports.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

export const repository = fileURLToPath(new URL('../..', import.meta.url))
const SCRIPT = /\.[mc]?[jt]sx?$/
const NATIVE = /\.(h|hpp|cpp|cc|cu|cuh)$/
const OTHERS = ['node_modules', 'dist', 'out', 'fixtures']

function* walk(folder) {
  if (!existsSync(folder)) return
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) {
      if (!OTHERS.includes(entry.name)) yield* walk(path)
    } else yield path
  }
}

/** A file that says so in its first lines is made by a command, and no rule about its form holds. */
const isGenerated = (text) => text.split('\n', 5).some((line) => line.includes('@generated'))

/** Source files below the folders named, by their paths from the root: `{ name, text, native, generated }`. */
export function sourcesOf(root, folders) {
  return folders
    .flatMap((folder) => [...walk(join(root, folder))])
    .filter((path) => SCRIPT.test(path) || NATIVE.test(path))
    .sort()
    .map((path) => {
      const text = readFileSync(path, 'utf8')
      const name = relative(root, path).split(sep).join('/')
      return { name, text, native: NATIVE.test(path), generated: isGenerated(text) }
    })
}

/** The syntax tree of a TypeScript or JavaScript file, with parents. */
export const parse = ({ name, text }) => ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true)

export const lineOf = (tree, position) => tree.getLineAndCharacterOfPosition(position).line + 1

/** The node that names the module, where a node imports one: import, export ... from, import(), import('...').Type. */
function specifierOf(node) {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return node.argument.literal
  if (ts.isExternalModuleReference(node)) return node.expression
  if (!ts.isCallExpression(node)) return undefined
  const { expression } = node
  const loads =
    expression.kind === ts.SyntaxKind.ImportKeyword ||
    (ts.isIdentifier(expression) && expression.text === 'require')
  return loads ? node.arguments[0] : undefined
}

function scriptImports(source) {
  const tree = parse(source)
  const found = []
  const visit = (node) => {
    const specifier = specifierOf(node)
    if (specifier && ts.isStringLiteralLike(specifier)) {
      found.push({ target: specifier.text, line: lineOf(tree, specifier.getStart(tree)) })
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return found
}

function nativeIncludes({ text }) {
  const found = []
  for (const [n, line] of text.split('\n').entries()) {
    const match = /^\s*#\s*include\s*(["<])([^">]+)[">]/.exec(line)
    if (match) found.push({ target: match[2], line: n + 1, quoted: match[1] === '"' })
  }
  return found
}

/** What a file imports or includes, types too: `{ target, line }` as written; `quoted` of an include. */
export const importsOf = (source) => (source.native ? nativeIncludes(source) : scriptImports(source))

/** The name of the file of the repository that a relative import means: `./a.js` is written for `./a.ts`. */
export function resolveImport(names, from, target) {
  if (!target.startsWith('.')) return undefined
  const path = relative('/', resolve('/', dirname(from), target))
    .split(sep)
    .join('/')
  return [path, path.replace(/\.([mc]?)js$/, '.$1ts'), path.replace(/\.js$/, '.tsx')].find((name) =>
    names.has(name),
  )
}

/** Runs rules as a script: prints each violation, and how many a rule found. */
export function report(rules) {
  let wrong = 0
  for (const [name, rule] of Object.entries(rules)) {
    const found = rule(repository)
    for (const line of found) console.error(line)
    console.log(`${name}: ${found.length} wrong`)
    wrong += found.length
  }
  process.exitCode = wrong === 0 ? 0 : 1
}
