// The public interface, as the built declarations have it: docs/api.md, which changes only with --accept.
// It holds the exports of each entry and what their signatures name without it being exported, transitively.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { repository } from './sources.mjs'

const printer = ts.createPrinter({ removeComments: true, newLine: ts.NewLineKind.LineFeed })
const UNDOCUMENTED = ' // undocumented'

const documented = (node) => ts.getJSDocCommentsAndTags(node).length > 0
/** Members that users do not see: private and protected ones, for no class is made to be extended, and @internal ones. */
const isPrivate = (member) =>
  (member.name && ts.isPrivateIdentifier(member.name)) ||
  ts.getJSDocTags(member).some(({ tagName }) => tagName.text === 'internal') ||
  (ts.getCombinedModifierFlags(member) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) !== 0

/** The declaration as a statement: a variable is declared by the statement around it. */
const statementOf = (node) => (ts.isVariableDeclaration(node) ? node.parent.parent : node)

/** The text of a declaration without comments and private members; what has no documentation is marked. */
function textOf(declaration) {
  const node = statementOf(declaration)
  const file = node.getSourceFile()
  const print = (part) =>
    printer.printNode(ts.EmitHint.Unspecified, part, file).replace(/\bexport (default )?/, '')
  const mark = documented(node) ? '' : UNDOCUMENTED
  if (!ts.isClassDeclaration(node) && !ts.isInterfaceDeclaration(node)) {
    const [first, ...rest] = print(node).split('\n')
    return [first + mark, ...rest].join('\n')
  }
  const head = file.text.slice(node.getStart(file), node.members.pos).replace(/\s+/g, ' ')
  const members = node.members
    .filter((member) => !isPrivate(member))
    .map((member) => {
      const [first, ...rest] = print(member).split('\n')
      return [`  ${first}${documented(member) ? '' : UNDOCUMENTED}`, ...rest.map((line) => `  ${line}`)].join(
        '\n',
      )
    })
  return [head.replace(/^export /, '') + mark, ...members, '}'].join('\n')
}

/** The node that names another declaration, where a node of a signature does. */
function nameIn(node) {
  if (ts.isTypeReferenceNode(node)) return node.typeName
  if (ts.isExpressionWithTypeArguments(node)) return node.expression
  if (ts.isTypeQueryNode(node)) return node.exprName
  if (ts.isImportTypeNode(node)) return node.qualifier
  return undefined
}

class Surface {
  constructor(program, folder) {
    this.checker = program.getTypeChecker()
    this.folder = folder
  }

  resolve(symbol) {
    return symbol.flags & ts.SymbolFlags.Alias ? this.checker.getAliasedSymbol(symbol) : symbol
  }

  /** Declarations of ours at the top of a module; type parameters and what other packages declare are none. */
  declarationsOf(symbol) {
    return (symbol.declarations ?? []).filter(
      (node) =>
        node.getSourceFile().fileName.startsWith(this.folder) && ts.isSourceFile(statementOf(node).parent),
    )
  }

  exportsOf(source) {
    const symbol = this.checker.getSymbolAtLocation(source)
    return this.checker
      .getExportsOfModule(symbol)
      .map((each) => ({ name: each.name, symbol: this.resolve(each) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** The symbols that the public part of a declaration names. */
  namedBy(declaration) {
    const found = []
    const visit = (node) => {
      if ((ts.isClassElement(node) || ts.isTypeElement(node)) && isPrivate(node)) return
      const name = nameIn(node)
      const symbol = name && this.checker.getSymbolAtLocation(name)
      if (symbol) found.push({ symbol: this.resolve(symbol), asValue: ts.isTypeQueryNode(node) })
      ts.forEachChild(node, visit)
    }
    visit(declaration)
    return found
  }

  /** What exports name and no entry exports, transitively, each with the one that names it; `typeof` too if asked. */
  hidden(exported, typeOf) {
    const hidden = new Map()
    const queue = [...exported]
    for (const symbol of queue) {
      for (const declaration of this.declarationsOf(symbol)) {
        for (const { symbol: named, asValue } of this.namedBy(declaration)) {
          if (asValue && !typeOf) continue
          if (this.declarationsOf(named).length === 0 || exported.has(named) || hidden.has(named)) continue
          hidden.set(named, symbol)
          queue.push(named)
        }
      }
    }
    return hidden
  }

  print(symbol) {
    return this.declarationsOf(symbol).map(textOf).join('\n')
  }
}

function program(paths) {
  const options = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext }
  return ts.createProgram(paths, {
    ...options,
    target: ts.ScriptTarget.ES2022,
    noEmit: true,
    types: ['node'],
  })
}

const block = (texts) => `\`\`\`ts\n${texts.join('\n\n')}\n\`\`\``

/** The report of entries (`{ posttrain: 'dist/lib/index.d.ts' }`), and the names of types that should be exported. */
export function apiReport(root, entries) {
  const paths = Object.values(entries).map((path) => join(root, path))
  const compiled = program(paths)
  const surface = new Surface(compiled, `${dirname(paths[0]).split('\\').join('/')}/`)
  const sections = []
  const exported = new Set()
  for (const [n, name] of Object.keys(entries).entries()) {
    const texts = surface.exportsOf(compiled.getSourceFile(paths[n])).map((each) => {
      exported.add(each.symbol)
      const renamed = each.name === each.symbol.name ? '' : `// exported as ${each.name}\n`
      return renamed + surface.print(each.symbol)
    })
    sections.push(`## ${name}`, block(texts))
  }
  const missing = [...surface.hidden(exported, false)].map(
    ([symbol, by]) => `${symbol.name}, named by ${by.name}`,
  )
  const list = [...new Set(missing)].sort().map((line) => `- ${line}`)
  sections.push('## Types that signatures name and no entry exports', list.join('\n') || 'none')
  const texts = [...surface.hidden(exported, true).keys()].map((symbol) => surface.print(symbol)).sort()
  if (texts.length > 0)
    sections.push('Their declarations, and those of values that only `typeof` names:', block(texts))
  const lacking = sections.join('\n').split(UNDOCUMENTED).length - 1
  const head = [
    '<!-- @generated by `node scripts/lint/api.mjs --accept` from the declarations in dist/. -->',
    '# The public interface',
    `${lacking} declarations and members have no documentation.`,
  ]
  return { report: `${[...head, ...sections].join('\n\n')}\n`, missing: list }
}

function main() {
  const path = join(repository, 'docs/api.md')
  const { exports } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'))
  const entries = Object.fromEntries(
    Object.entries(exports)
      .filter(([, target]) => target.types)
      .map(([name, { types }]) => [`posttrain${name.slice(1)}`, types]),
  )
  const { report, missing } = apiReport(repository, entries)
  const before = existsSync(path) ? readFileSync(path, 'utf8') : ''
  console.log(`api: ${missing.length} types in public signatures are not exported`)
  if (report === before) return
  if (process.argv.includes('--accept')) return writeFileSync(path, report)
  // What git prints as the difference, at most a screen or two of it.
  const { stdout } = spawnSync('git', ['diff', '--no-index', '--', path, '-'], {
    input: report,
    encoding: 'utf8',
  })
  console.error(stdout.split('\n').slice(4, 124).join('\n'))
  console.error(
    'docs/api.md: the public interface is another one; node scripts/lint/api.mjs --accept takes it on',
  )
  process.exitCode = 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
