import { join } from 'node:path'
import ts from 'typescript'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'

/** A documentation in one line. */
export const plain = (parts: ts.SymbolDisplayPart[] | undefined) =>
  ts.displayPartsToString(parts).replace(/\s+/g, ' ')

/** A program of a user, in memory beside the package, as an editor and the compiler see it; it imports 'posttrain'. */
export class UserProgram {
  readonly #path = join(packageRoot(), 'program-of-a-user.mts')
  readonly #text: string
  readonly #service: ts.LanguageService

  constructor(text: string, options: ts.CompilerOptions = {}) {
    this.#text = text
    const all: ts.CompilerOptions = {
      target: ts.ScriptTarget.ES2022,
      lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      types: ['node'],
      strict: true,
      skipLibCheck: true,
      ...options,
    }
    const read = (path: string) => (path === this.#path ? text : ts.sys.readFile(path))
    this.#service = ts.createLanguageService({
      getCompilationSettings: () => all,
      getCurrentDirectory: () => packageRoot(),
      getDefaultLibFileName: (of) => ts.getDefaultLibFilePath(of),
      getScriptFileNames: () => [this.#path],
      getScriptVersion: () => '1',
      getScriptSnapshot: (path) => {
        const found = read(path)
        return found === undefined ? undefined : ts.ScriptSnapshot.fromString(found)
      },
      fileExists: (path) => path === this.#path || ts.sys.fileExists(path),
      readFile: read,
      directoryExists: ts.sys.directoryExists,
      getDirectories: ts.sys.getDirectories,
    })
  }

  get program(): ts.Program {
    return this.#service.getProgram()!
  }

  get source(): ts.SourceFile {
    return this.program.getSourceFile(this.#path)!
  }

  /** Every error, of the declarations too where they are checked. */
  errors(): string[] {
    return ts
      .getPreEmitDiagnostics(this.program)
      .map(
        ({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
      )
  }

  /** What an editor shows over the last place where `text` stands. */
  hover(text: string): string {
    const info = this.#service.getQuickInfoAtPosition(this.#path, this.#text.lastIndexOf(text))
    return plain(info?.documentation)
  }

  /** Names of the exported types that end so. */
  exportedTypes(ending: string): string[] {
    const checker = this.program.getTypeChecker()
    return this.source.statements.filter(ts.isImportDeclaration).flatMap(({ moduleSpecifier }) =>
      checker
        .getExportsOfModule(checker.getSymbolAtLocation(moduleSpecifier)!)
        .map(({ name }) => name)
        .filter((name) => name.endsWith(ending)),
    )
  }
}
