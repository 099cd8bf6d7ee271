import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  encodeRow,
  readPreference,
  readPrompt,
  readRow,
  readRows,
  readUnpaired,
  Template,
} from '../../lib/data/index.js'
import { PosttrainError } from '../../lib/errors.js'
import { hash32 } from '../../lib/random.js'
import { newFolder } from '../helpers/scratch.js'
import { conversations } from '../helpers/template-fixture.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

/** 50,000 in a longer run. */
const ROWS = Number(process.env.POSTTRAIN_FUZZ_ROWS ?? 2_000)
const TEMPLATES = Number(process.env.POSTTRAIN_FUZZ_TEMPLATES ?? 2_000)
const LIMIT_MS = 2_000

const tokenizer = byteTokenizer()
const folder = join('test', 'fixtures', 'templates')
const sources = ['chatml', 'distill', 'harmony', 'returning', 'tagged', 'thinking'].map((name) =>
  readFileSync(join(folder, `${name}.jinja`), 'utf8'),
)

/** A text with up to three cuts, insertions and moves of its own parts. */
function mutant(text: string, pieces: readonly string[], n: number): string {
  const draw = (k: number, below: number) => hash32(17, n, k) % Math.max(1, below)
  let changed = text
  for (let k = 0; k <= n % 3; k++) {
    const at = draw(10 * k, changed.length)
    const from = draw(10 * k + 3, changed.length)
    const piece =
      n % 4 === 0
        ? changed.slice(from, from + draw(10 * k + 4, 60))
        : pieces[draw(10 * k + 1, pieces.length)]!
    changed = changed.slice(0, at) + piece + changed.slice(at + draw(10 * k + 2, 12))
  }
  return changed
}

const VALUES: unknown[] = [
  null,
  5,
  -1,
  1.5,
  1e308,
  'x',
  '',
  ' ',
  [],
  {},
  true,
  false,
  [null],
  [['a', 'b']],
  { type: 'text' },
]

/** A row with another value at one to three of its places. */
function rowMutant(text: string, n: number): string {
  const draw = (k: number, below: number) => hash32(19, n, k) % Math.max(1, below)
  const json = JSON.parse(text) as Record<string, unknown>
  for (let k = 0; k <= n % 3; k++) {
    let node = json
    for (let depth = 0; ; depth++) {
      const keys = Object.keys(node)
      const key = keys[draw(10 * k + depth, keys.length)]!
      const inner = node[key]
      if (
        typeof inner === 'object' &&
        inner !== null &&
        Object.keys(inner).length > 0 &&
        draw(99 + depth, 5) > 0
      ) {
        node = inner as typeof node
        continue
      }
      node[key] = structuredClone(VALUES[draw(10 * k + 7, VALUES.length)])
      break
    }
  }
  return JSON.stringify(json)
}

/** Runs `work`; fails for an error that is not typed, or after two seconds. Returns whether it was refused. */
function refused(t: ExecutionContext, what: string, work: () => void): boolean {
  const start = performance.now()
  let typed = false
  try {
    work()
  } catch (error) {
    typed = error instanceof PosttrainError
    if (!typed) t.fail(`${what}\n${(error as Error).stack}`)
  }
  const took = performance.now() - start
  if (took > LIMIT_MS) t.fail(`${what}\ntook ${took} ms`)
  return typed
}

const ROW_TEXTS = [
  ...conversations.slice(0, 30).map((row) => JSON.stringify(row)),
  '{"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]], "weight": 0.5}',
  '{"prompt": "a", "completion": "b", "tools": [{"name": "f", "parameters": {"type": "object"}}]}',
  '{"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c", "margin": 1}',
  '{"chosen": "Human: a Assistant: b", "rejected": "Human: a Assistant: c"}',
  '{"prompt": "a", "completion": "b", "label": true}',
  '{"prompt": "a", "responses": ["b", "c"], "chat_template_kwargs": {"x": 1.0}}',
  '{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{\\"name\\": \\"f\\", \\"arguments\\": {}}"}]}',
  '{"text": "plain"}',
]
const JSON_PIECES = [
  '{',
  '}',
  '[',
  ']',
  '"',
  ',',
  ':',
  'null',
  '1e999',
  '-',
  '\\',
  '\\ud83d',
  '9'.repeat(25),
].concat([
  '[['.repeat(200),
  '{"a":'.repeat(150),
  '"role"',
  '"__proto__"',
  '"tool_calls"',
  '"content"',
  '1.0',
  'true',
  '\u0000',
])

test(`${ROWS} mutants of rows in a file are read, or refused by their line`, async (t) => {
  const lines = Array.from({ length: ROWS }, (_, n) =>
    n % 2 === 0
      ? rowMutant(ROW_TEXTS[n % ROW_TEXTS.length]!, n)
      : mutant(ROW_TEXTS[n % ROW_TEXTS.length]!, JSON_PIECES, n).replaceAll('\n', ' '),
  )
  const path = join(newFolder(t), 'rows.jsonl')
  writeFileSync(path, `${lines.join('\n')}\n`)
  const template = Template.fromSource(sources[0]!)
  const counts = { seen: 0, refusals: 0, encoded: 0 }
  for await (const { row, exact, origin, failure } of readRows(path)) {
    counts.seen++
    const what = `line ${origin.line}: ${lines[origin.line - 1]}`
    if (failure) {
      t.true(failure instanceof PosttrainError && failure.message.includes(`:${origin.line}: `), what)
      counts.refusals++
      continue
    }
    const given = exact ?? row
    for (const read of [readPreference, readPrompt, readUnpaired]) refused(t, what, () => read(given, origin))
    const typed = refused(t, what, () => {
      const example = readRow(given, origin)
      if (example.kind === 'text') return
      encodeRow(example, tokenizer, template, { maxLength: 256, trainOn: 'assistant', overflow: 'truncate' })
      counts.encoded++
    })
    if (typed) counts.refusals++
  }
  t.log(counts)
  t.true(counts.seen > ROWS / 2)
  t.true(counts.encoded > ROWS / 20 && counts.refusals > ROWS / 4)
})

const JINJA_PIECES = [
  ...['{%', '%}', '{{', '}}', '{#', '-%}', '|', '(', ')', '[::-1]', '.items()', ' for ', ' if ', ' in '],
  ...[
    'range(99999)',
    '| tojson',
    '| join',
    '* 99999',
    "'a' * 9999",
    'loop(messages)',
    'messages',
    'namespace()',
  ],
  ...[
    '{% for m in messages %}',
    '{% endfor %}',
    '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
    'is defined',
  ],
  ...[
    '__class__',
    'constructor',
    '.prototype',
    '((((((',
    '[[[[[[',
    '{{ {',
    "| replace('', 'xx')",
    '| indent(99999)',
  ],
]

test(`${TEMPLATES} mutants of chat templates render, or are refused`, (t) => {
  const counts = { refusals: 0, rendered: 0 }
  for (let n = 0; n < TEMPLATES; n++) {
    const source = mutant(sources[n % sources.length]!, JINJA_PIECES, n)
    const { messages, tools } = conversations[n % 4]!
    const typed = refused(t, `mutant ${n}\n${source}`, () => {
      const template = Template.fromSource(source)
      template.segments({ messages, tools }, tokenizer, { trainOn: 'assistant' })
      template.promptIds({ messages: messages.slice(0, 1), ...(tools && { tools }) }, tokenizer)
    })
    counts[typed ? 'refusals' : 'rendered']++
  }
  t.log(counts)
  t.true(counts.refusals > TEMPLATES / 5 && counts.rendered > TEMPLATES / 20)
})
