// Generates the option interfaces, with the doc comments that editors show, and docs/options.md from the schemas in dist/.
//   node scripts/option-types.mjs            writes lib/**/options.generated.ts and the page; compile before and after it
//   node scripts/option-types.mjs --check    fails if one of them is stale
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, posix, relative, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const inRoot = (...parts) => join(root, ...parts)
const FILE = 'options.generated.ts'
const WIDTH = 110

const sources = readdirSync(inRoot('lib'), { recursive: true })
  .map((name) => `lib/${name.split(sep).join('/')}`)
  .filter((name) => name.endsWith('.ts'))
  .sort()
const textOf = new Map(sources.map((name) => [name, readFileSync(inRoot(name), 'utf8')]))
const { describe, typeNameOf } = await import(pathToFileURL(inRoot('dist/lib/options/option.js')))

/** Unwraps `.optional()`, `.default()`, `.nullable()` and `.readonly()` of a schema. */
function open(schema) {
  const found = { schema, optional: false, nullable: false, readonly: false, fallback: undefined }
  for (;;) {
    const { type, innerType, defaultValue } = found.schema.def
    if (type === 'default') found.fallback = defaultValue
    if (type === 'default' || type === 'optional') found.optional = true
    else if (type === 'nullable') found.nullable = true
    else if (type === 'readonly') found.readonly = true
    else return found
    found.schema = innerType
  }
}

const quoted = (value) => (typeof value === 'string' ? `'${value}'` : String(value))

function typeOf(given, indent) {
  const { schema, nullable, readonly } = open(given)
  const type = plainTypeOf(schema, indent)
  return `${readonly ? 'readonly ' : ''}${type}${nullable ? ' | null' : ''}`
}

function plainTypeOf(schema, indent) {
  const { type, element, options, entries } = schema.def
  switch (type) {
    case 'number':
    case 'string':
    case 'boolean':
      return type
    case 'enum':
      return Object.values(entries).map(quoted).join(' | ')
    case 'array': {
      const inner = typeOf(element, indent)
      return inner.includes(' ') ? `(${inner})[]` : `${inner}[]`
    }
    case 'union':
      return options.map((option) => typeOf(option, indent)).join(' | ')
    case 'object':
      return `{\n${fieldsOf(schema, `${indent}  `)}\n${indent}}`
    default: {
      const name = typeNameOf(schema)
      if (name === undefined) throw new Error(`${type} has no TypeScript type here: define it with custom()`)
      return name
    }
  }
}

/** Range of a schema, such as 'In [0, 1)' or 'An integer of at least 1'. */
function rangeOf(schema) {
  const checks = (schema.def.checks ?? []).map((check) => check._zod.def)
  const low = checks.findLast(({ check }) => check === 'greater_than')
  const high = checks.findLast(({ check }) => check === 'less_than')
  const integer = schema.format?.includes('int') ? 'An integer' : null
  const least = checks.find(({ check }) => check === 'min_length')
  if (schema.def.type === 'array' && least)
    return least.minimum === 1 ? 'Not empty' : `At least ${least.minimum} of them`
  if (schema.def.type === 'string' && least) return 'Not empty'
  if (low && high) {
    const range = `in ${low.inclusive ? '[' : '('}${low.value}, ${high.value}${high.inclusive ? ']' : ')'}`
    return integer === null ? range[0].toUpperCase() + range.slice(1) : `${integer} ${range}`
  }
  if (low && integer) return `${integer} ${low.inclusive ? 'of at least' : 'above'} ${low.value}`
  if (low) return `${low.inclusive ? 'At least' : 'Above'} ${low.value}`
  if (high) return `${high.inclusive ? 'At most' : 'Below'} ${high.value}`
  return integer ?? (schema.def.type === 'number' ? 'Any finite number' : null)
}

/** Doc comment of an option: description, range, default. */
function docOf(path, given) {
  const text = describe(given)?.text
  if (!text) throw new Error(`${path} has no description`)
  const { schema, optional, fallback } = open(given)
  const range = rangeOf(schema)
  const stated = [...text.matchAll(/ ?\(default: ([^()]*)\)/g)]
  // A single default moves to the end; several stay in place.
  const body = stated.length === 1 ? text.replace(stated[0][0], '') : text
  const sentences = [body, range]
  if (!optional) sentences.push('Required')
  else if (fallback !== undefined) sentences.push(`Defaults to \`${quoted(fallback)}\``)
  else if (stated.length === 1) sentences.push(`Default: ${stated[0][1]}`)
  else if (!/default: /i.test(text)) sentences.push('Optional')
  return sentences
    .filter((sentence) => sentence !== null)
    .map((sentence) => `${sentence}.`)
    .join(' ')
}

function commentOf(doc, indent) {
  const safe = doc.replaceAll('*/', '*\\/')
  const line = `${indent}/** ${safe} */`
  if (line.length <= WIDTH) return line
  const lines = ['']
  for (const word of safe.split(' ')) {
    if (`${indent} * ${lines.at(-1)} ${word}`.length > WIDTH) lines.push('')
    lines[lines.length - 1] += lines.at(-1) === '' ? word : ` ${word}`
  }
  return [`${indent}/**`, ...lines.map((text) => `${indent} * ${text}`), `${indent} */`].join('\n')
}

function fieldsOf(schema, indent) {
  return Object.entries(schema.shape)
    .map(([name, field]) => {
      const type = typeOf(field, indent)
      const { optional } = open(field)
      const typed = optional ? `${name}?: ${type} | undefined` : `${name}: ${type}`
      return `${commentOf(docOf(name, field), indent)}\n${indent}${typed}`
    })
    .join('\n')
}

function interfaceOf(name, set) {
  const fields = fieldsOf(set.schema(), '  ')
  const row = /\bRow\b/.test(fields)
  const what = `Options of \`${set.name}\`.${row ? ' `Row` has the columns of the rows, which reward functions see.' : ''}`
  const generic = row ? '<Row = Record<string, unknown>>' : ''
  return `${commentOf(what, '')}\nexport interface ${name}${generic} {\n${fields}\n}`
}

/** Options as a Markdown list, nested ones beneath their own. */
function listOf(schema, indent) {
  return Object.entries(schema.shape).flatMap(([name, field]) => {
    const { schema: inner } = open(field)
    const nested = inner.def.type === 'object'
    const type = nested ? '' : ` (${typeOf(field, '').replace(/ & \{\}/g, '')})`
    return [
      `${indent}- \`${name}\`${type}: ${docOf(name, field)}`,
      ...(nested ? listOf(inner, `${indent}  `) : []),
    ]
  })
}

/** Sections of the page; further sets follow these. */
const ORDER = ['sft', 'pretrain', 'reward', 'dpo', 'ppo', 'grpo', 'rloo', 'generate', 'addAdapter']

function pageOf(given) {
  const place = ([, { name }]) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length)
  const sets = given.toSorted((a, b) => place(a) - place(b))
  const sections = sets.map(([, set]) => [`## ${set.name}`, '', ...listOf(set.schema(), ''), ''].join('\n'))
  return [
    '<!-- Generated by scripts/option-types.mjs from the schemas in lib/: change those. -->',
    '',
    '# Options',
    '',
    'Options of the recipes and of `generate`, as an editor shows them on hover. The command line has the same as flags: `maxLength` is `--max-length`, `lora.rank` is `--lora-rank`.',
    '',
    ...sections,
  ].join('\n')
}

/** Imports of the library's types that a text names. */
function importsOf(text, folder) {
  const code = text.replace(/\/\*\*[\s\S]*?\*\//g, '').replace(/'[^'\n]*'/g, '')
  const own = new Set([...code.matchAll(/^export interface (\w+)/gm)].map(([, name]) => name))
  const names = new Set(code.match(/\b[A-Z]\w*/g)?.filter((name) => !own.has(name) && name !== 'Row'))
  const lines = []
  for (const [name, source] of textOf) {
    const found = [...names].filter((type) =>
      new RegExp(`^export (?:abstract )?(?:class|interface|type) ${type}\\b`, 'm').test(source),
    )
    if (found.length === 0 || name === `${folder}/${FILE}`) continue
    const target = posix.relative(folder, name).replace(/\.ts$/, '.js')
    lines.push(
      `import type { ${found.join(', ')} } from '${target.startsWith('.') ? target : `./${target}`}'`,
    )
  }
  return lines
}

/** Option sets of the library by folder, without those of the command line, which nobody imports. */
async function setsByFolder() {
  const folders = new Map()
  for (const [name, source] of textOf) {
    if (!/\bsatisfies OptionSet\b/.test(source) || name.startsWith('lib/cli/')) continue
    const made = await import(pathToFileURL(inRoot('dist', name.replace(/\.ts$/, '.js'))))
    for (const [key, set] of Object.entries(made)) {
      if (!key.endsWith('Options') || typeof set?.schema !== 'function') continue
      const folder = dirname(name)
      const list = folders.get(folder) ?? []
      list.push([key[0].toUpperCase() + key.slice(1), set])
      folders.set(folder, list)
    }
  }
  return folders
}

/** Formats with Biome. */
function formatted(text, name) {
  const biome = inRoot('node_modules/@biomejs/biome/bin/biome')
  const args = [biome, 'check', '--write', `--stdin-file-path=${name}`]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    input: text,
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`biome: ${stderr}`)
  return stdout
}

const check = process.argv.includes('--check')
let stale = 0
function write(name, text) {
  if (existsSync(inRoot(name)) && readFileSync(inRoot(name), 'utf8') === text) return
  stale++
  if (!check) writeFileSync(inRoot(name), text)
  console.log(
    `${relative(process.cwd(), inRoot(name))} ${check ? 'is stale: run node scripts/option-types.mjs' : 'written'}`,
  )
}

const folders = await setsByFolder()
for (const [folder, sets] of folders) {
  const body = sets.map(([name, set]) => interfaceOf(name, set)).join('\n\n')
  const head = '// @generated by scripts/option-types.mjs from the schemas beside it: change those.'
  const imports = importsOf(body, folder)
  const name = `${folder}/${FILE}`
  write(name, formatted([head, ...imports, '', body, ''].join('\n'), name))
}
write('docs/options.md', formatted(pageOf([...folders.values()].flat()), 'docs/options.md'))
process.exitCode = check && stale > 0 ? 1 : 0
