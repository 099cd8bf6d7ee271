import test from 'ava'
import ts from 'typescript'
import { plain, UserProgram } from '../helpers/user-program.js'

const TELLS_DEFAULT = /Defaults to `|Default: |\(default: |Optional\./

/** The properties of a type by their paths, those of objects that are written inside it too. */
function propertiesOf(checker: ts.TypeChecker, type: ts.Type, path: string): [string, ts.Symbol][] {
  return checker.getPropertiesOfType(type).flatMap((property) => {
    const declared = checker.getNonNullableType(checker.getTypeOfSymbol(property))
    const inside = (declared.isUnion() ? declared.types : [declared]).filter(
      ({ symbol }) =>
        symbol?.flags & ts.SymbolFlags.TypeLiteral && checker.getSignaturesOfType(declared, 0).length === 0,
    )
    const own: [string, ts.Symbol] = [`${path}.${property.name}`, property]
    return [own, ...inside.flatMap((each) => propertiesOf(checker, each, own[0]))]
  })
}

test('an editor shows what every option is, and its default or that it has none', (t) => {
  const names = new UserProgram("import * as all from 'posttrain'").exportedTypes('Options')
  t.true(names.length >= 19, names.join())
  const user = new UserProgram(
    [
      "import type * as all from 'posttrain'",
      ...names.map((name) => `export type ${name} = all.${name}`),
    ].join('\n'),
  )
  const checker = user.program.getTypeChecker()
  let count = 0
  for (const alias of user.source.statements.filter(ts.isTypeAliasDeclaration)) {
    for (const [path, property] of propertiesOf(checker, checker.getTypeAtLocation(alias), alias.name.text)) {
      const doc = plain(property.getDocumentationComment(checker))
      count++
      if (property.flags & ts.SymbolFlags.Optional) t.regex(doc, TELLS_DEFAULT, path)
      else t.regex(doc, /Required\./, path)
    }
  }
  t.true(count > 400, String(count))
})

test('an editor shows range, unit and default over an option where it is written, and names the interface in errors', (t) => {
  const user = new UserProgram(`import { CausalLM, sft, ppo, generate } from 'posttrain'
declare const model: CausalLM
sft({ model, data: 'x.jsonl', learningRate: 1e-4, lora: { rank: 8 } })
ppo({ model, data: 'x.jsonl', reward: () => [], rewardTimeoutMs: 5, klCoef: 0 })
generate(model, ['a'], { topP: 0.5 })
`)
  t.deepEqual(user.errors(), [])
  t.is(
    user.hover('learningRate'),
    'Peak learning rate; tiny models need 1e-4 to 2e-3. Above 0. Default: 2e-5, or 2e-4 with LoRA.',
  )
  t.regex(user.hover('rank'), /An integer of at least 1\. Defaults to `16`\./)
  t.regex(
    user.hover('rewardTimeoutMs'),
    /in milliseconds\. An integer in \[1, 2147483647\]\. Defaults to `60000`\./,
  )
  t.regex(user.hover('klCoef'), /At least 0\. Defaults to `0\.05`\./)
  t.regex(user.hover('topP'), /In \(0, 1\]\. Defaults to `1`\./)
  const wrong = new UserProgram(`import { CausalLM, sft } from 'posttrain'
declare const model: CausalLM
sft({ model, data: 'x.jsonl', learningrate: 1 })
`)
  t.regex(wrong.errors().join(), /'learningrate' does not exist in type 'SftOptions'\. Did you mean/)
})

test('a model of new weights, which reads no files, takes no option of the Hub', (t) => {
  const hub = "import type { CreateOptions, HubOptions } from 'posttrain'\n"
  const errors = new UserProgram(
    `${hub}export const none: Extract<keyof CreateOptions, keyof HubOptions> extends never ? true : false = true`,
  ).errors()
  t.deepEqual(errors, [])
})
