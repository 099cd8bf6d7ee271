import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import ts from 'typescript'
import { newFolder } from '../helpers/scratch.js'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** The compiler and its flags in the developer build; null where nothing was built by it. */
function compiler(): { command: string; flags: string[] } | null {
  const list = join(root, 'build-cmake/compile_commands.json')
  if (!existsSync(list)) return null
  const entries = JSON.parse(readFileSync(list, 'utf8')) as { file: string; command: string }[]
  const entry = entries.find(({ file }) => file === join(root, 'native/train/terms/terms.cpp'))
  if (entry === undefined) return null
  const words = entry.command.split(' ').filter((word) => !/^-(O\d|f.*|c|o)$|\.(o|cpp)$/.test(word))
  const first = /ccache$/.test(words[0]!) ? 1 : 0
  return { command: words[first]!, flags: words.slice(first + 1) }
}

const cpp = compiler()
// One after another: each compiler takes some 150 MB.
const native = cpp === null ? test.skip : test.serial
if (cpp === null) console.log('no developer build with the headers of libtorch: C++ terms are not compiled')

const run = promisify(execFile)

/** What the compiler says of one source where some files are others: '' where it accepts it. */
async function compile(t: ExecutionContext, source: string, files: Record<string, string>): Promise<string> {
  const folder = newFolder(t)
  for (const [path, text] of Object.entries({ [source]: read(`native/${source}`), ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  const args = ['-fsyntax-only', '-Werror=switch', `-I${folder}`, ...cpp!.flags, join(folder, source)]
  const environment = { ...process.env, LC_ALL: 'C' }
  return await run(cpp!.command, args, { env: environment, maxBuffer: 2 ** 26 }).then(
    () => '',
    ({ stderr }: { stderr: string }) => stderr,
  )
}

/** A file of native/ with one text in the place of another, which must be there. */
function changed(path: string, from: string, to: string): Record<string, string> {
  const text = read(`native/${path}`)
  if (!text.includes(from)) throw new Error(`${path} does not have: ${from}`)
  return { [path]: text.replace(from, to) }
}

const PARTS = {
  kKind: 'static constexpr const char* kKind = "dummy";',
  coefficient: 'double coefficient = 1;',
  read: 'static DummyTerm read(const Fields& fields);',
  needs: 'Needs needs() const;',
  loss: 'losses::Sums loss(const Outputs& outputs, const Gradient& gradient) const;',
}

/** The list of terms with one more, which lacks a part. */
function withDummy(lacks?: string): Record<string, string> {
  const parts = Object.entries(PARTS).filter(([name]) => name !== lacks)
  const dummy = `struct DummyTerm {\n${parts.map(([, line]) => line).join('\n')}\n};\n`
  const terms = changed('train/terms/terms.h', 'using LossTerm', `${dummy}using LossTerm`)
  const [path, text] = Object.entries(terms)[0]!
  return { [path]: text.replace('std::variant<', 'std::variant<DummyTerm, ') }
}

native('a term of C++ with all its parts compiles', async (t) => {
  t.is(await compile(t, 'train/terms/terms.cpp', withDummy()), '')
})

for (const part of Object.keys(PARTS)) {
  native(`a term of C++ without ${part} does not compile, and the compiler names it`, async (t) => {
    const said = await compile(t, 'train/terms/terms.cpp', withDummy(part))
    t.regex(said, /error:/)
    t.regex(said, /DummyTerm/)
    t.regex(said, new RegExp(`\\b${part}\\b`))
  })
}

const SWITCHES = [
  ['Reads', 'train/terms/term.h', 'enum class Reads {', 'train/terms/terms.cpp'],
  ['KlEstimator', 'losses/kl.h', 'enum class KlEstimator {', 'losses/kl.cpp'],
  ['DpoKind', 'losses/preference.h', 'enum class DpoKind {', 'losses/preference.cpp'],
  ['RewardScale', 'rollout/advantages.h', 'enum class RewardScale {', 'rollout/advantages.cpp'],
  ['ErrorCode', 'core/error.h', 'enum class ErrorCode {', 'loader/library.cpp'],
] as const

for (const [name, header, start, source] of SWITCHES) {
  native(`one more ${name} that no switch handles does not compile`, async (t) => {
    const library = { 'loader/library.cpp': '#include "core/error.h"\n' }
    const files = { ...library, ...changed(header, start, `${start}\n  dummy,`) }
    t.regex(
      await compile(t, source, files),
      /error: enumeration value '?.?.?dummy'?.?.? not handled in switch/,
    )
  })
}

test('both builds refuse a switch that lacks a case', (t) => {
  for (const build of ['CMakeLists.txt', 'binding.gyp']) t.regex(read(build), /-Werror=switch\b/, build)
})

native('a misspelt code of an error does not compile', async (t) => {
  const source = (code: string) => ({
    'loader/library.cpp': `#include "core/error.h"\nvoid f() { throw posttrain::core::Error(${code}, ""); }\n`,
  })
  t.is(await compile(t, 'loader/library.cpp', source('posttrain::core::ErrorCode::io')), '')
  t.regex(
    await compile(t, 'loader/library.cpp', source('posttrain::core::ErrorCode::oi')),
    /'?oi'? is not a member/,
  )
  t.regex(await compile(t, 'loader/library.cpp', source('"ERR_IO"')), /error:/)
})

const UNION = 'lib/addon/terms.ts'

/** lib, where the union of terms has this text. */
function program(text: string): ts.Program {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const plain = { ...options, noEmit: true, incremental: false }
  delete plain.tsBuildInfoFile
  const host = ts.createCompilerHost(plain)
  const { readFile } = host
  host.readFile = (path) => (path === join(root, UNION) ? text : readFile.call(host, path))
  return ts.createProgram([join(root, 'lib/index.ts'), join(root, 'lib/cli/main.ts')], plain, host)
}

test('a kind more in TypeScript does not compile where it is not handled: what it counts, gives and reads', (t) => {
  const union = read(UNION)
  const start = "  | { kind: 'crossEntropy'"
  t.true(union.includes(start))
  const found = program(
    union.replace(start, `  | { kind: 'dummy'; coefficient?: number }\n${start}`),
  ).getSemanticDiagnostics()
  const places = found.map(({ file }) => relative(root, file!.fileName).replaceAll('\\', '/'))
  t.deepEqual([...new Set(places)].sort(), [
    'lib/estimate/passes.ts',
    'lib/models/term-rules.ts',
    'lib/models/terms.ts',
  ])
  const said = found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '))
  t.true(
    said.some((text) => /does not satisfy the expected type 'never'/.test(text)),
    'countOf',
  )
  t.true(
    said.some((text) => /'dummy'.*(missing|does not exist|cannot be used)/.test(text)),
    'tables by kind',
  )
})

test('the kinds of TypeScript are those of C++', (t) => {
  const source = ts.createSourceFile(UNION, read(UNION), ts.ScriptTarget.Latest)
  const kinds: string[] = []
  const visit = (node: ts.Node) => {
    if (ts.isPropertySignature(node) && node.name.getText(source) === 'kind' && node.type !== undefined)
      if (ts.isLiteralTypeNode(node.type) && ts.isStringLiteral(node.type.literal))
        kinds.push(node.type.literal.text)
    ts.forEachChild(node, visit)
  }
  visit(source)
  const folder = join(root, 'native/train/terms')
  const theirs = readdirSync(folder).flatMap(
    (name) => /kKind = "(\w+)"/.exec(readFileSync(join(folder, name), 'utf8'))?.[1] ?? [],
  )
  t.true(kinds.length >= 9)
  t.deepEqual(kinds.sort(), theirs.sort())
})
