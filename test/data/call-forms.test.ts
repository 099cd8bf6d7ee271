import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type Message, readRow, Template, Tokenizer } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }
const masks = (name: string) => readFileSync(join('test', 'fixtures', 'masks', name), 'utf8')
const tokenizer = Tokenizer.fromFiles({
  tokenizerJson: masks('tokenizer.json'),
  tokenizerConfig: masks('tokenizer_config.json'),
})

const JSON_TEXT = '{"town": "Ulm", "mm": 1.0}'
const calling = (args: unknown, content: string | null) => ({
  role: 'assistant',
  content,
  tool_calls: [{ id: 'c1', type: 'function', function: { name: 'rain', arguments: args } }],
})
const asText = calling(JSON_TEXT, null)
const asObject = calling({ town: 'Ulm', mm: 1.5 }, null)

function messagesOf(...messages: object[]): Message[] {
  const example = readRow({ messages: [user('a'), ...messages] }, origin)
  if (example.kind !== 'messages') throw new Error('a conversation expected')
  return example.messages
}

/** A ChatML template that writes a turn with calls as told. */
const template = (turn: string) =>
  Template.fromSource(
    `{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}` +
      `{%- if m.tool_calls %}${turn}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}` +
      `{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`,
  )
const each = (call: string) => `{% for c in m.tool_calls %}${call}{% endfor %}`
const joining = template(`{{ m.content or '' }}${each('{{ c.function.name + c.function.arguments }}')}`)
const writing = template(`{{ m.content }}${each('{{ c.function | tojson }}')}`)
const printing = template(`{{ m.content or '' }}${each('{{ c.function.arguments }}')}`)
const ofNull = template(
  `{%- if m.content is none %}${each('{{ c.function.arguments | tojson }}')}{% else %}{{ m.content }}{% endif %}`,
)

const turnOf = (text: string) => text.split('<|im_start|>assistant\n')[1]!.split('<|im_end|>')[0]
/** The trained turn, and the same turn in a prompt that follows it. */
function turns(of: Template, message: object): [trained: string, asked: string | undefined] {
  const messages = messagesOf(message)
  const { segments } = of.segments({ messages }, tokenizer, { trainOn: 'assistant' })
  const trained = segments.filter((segment) => segment.trained).map(({ text }) => text)
  const asked = of.prompt({ messages: [...messages, { role: 'tool', content: '3' }] }, tokenizer)
  return [trained.join(''), turnOf(asked)]
}

const WRITTEN = '{"name": "rain", "arguments": {"town": "Ulm", "mm": 1.0}}'
const forms: [string, Template, object, string][] = [
  ['text is joined as the row wrote it', joining, asText, `rain${JSON_TEXT}`],
  ['text is an object where the template writes JSON', writing, asText, WRITTEN],
  ["text is not printed in Python's spelling", printing, asText, JSON_TEXT],
  ['a null is given to a template that expects it', ofNull, asText, JSON_TEXT],
  ['a null is not printed', writing, asObject, '{"name": "rain", "arguments": {"town": "Ulm", "mm": 1.5}}'],
  ['an absent content counts as null', ofNull, { ...asText, content: undefined }, JSON_TEXT],
  ['absent arguments are none', joining, calling(undefined, null), 'rain{}'],
  [
    'calls of ShareGPT can be joined as text',
    joining,
    { role: 'function_call', content: '{"name": "rain", "arguments": {"mm": 1.0}}' },
    'rain{"mm":1.0}',
  ],
  [
    "a call of OpenAI's older API can stand beside null",
    ofNull,
    { role: 'assistant', content: null, function_call: { name: 'rain', arguments: JSON_TEXT } },
    JSON_TEXT,
  ],
]
for (const [name, of, message, expected] of forms) {
  test(`${name}, in training as in prompts`, (t) => {
    t.deepEqual(turns(of, message), [`${expected}<|im_end|>`, expected])
  })
}

test('messages of an OpenAI client are rendered in prompts as they are in rows', (t) => {
  const result = { role: 'tool', content: '3' }
  for (const of of [joining, writing, printing, ofNull]) {
    const given = { messages: [user('a'), asText, result] as Message[] }
    const read = { messages: messagesOf(asText, result) }
    t.is(of.prompt(given, tokenizer), of.prompt(read, tokenizer))
    t.deepEqual(of.promptIds(given, tokenizer), of.promptIds(read, tokenizer))
  }
})

test('a form that a template cannot render is an error that says what to write', (t) => {
  const render = (of: Template, message: object) => () =>
    of.segments({ messages: messagesOf(message, assistant('b')) }, tokenizer, { trainOn: 'assistant' })
  t.throws(render(joining, asObject), {
    code: 'ERR_DATA',
    message:
      'the chat template cannot render messages[1].tool_calls: it joins the arguments of calls as text, so give function.arguments as JSON text, not as an object',
  })
  t.throws(render(ofNull, calling({ town: 'Ulm' }, '')), {
    code: 'ERR_DATA',
    message:
      'the chat template does not render messages[1].tool_calls: it renders calls only where content is null, so write null for an empty content',
  })
  t.throws(render(ofNull, calling({ town: 'Ulm' }, 'I look.')), {
    message: /does not render messages\[1\]\.tool_calls: remove it, or use a template that does/,
  })
})

test('an empty content stays empty, whatever a null would give', (t) => {
  const of = template(`{{ '[' if m.content is none else '(' }}${each('{{ c.function | tojson }}')}`)
  t.is(turns(of, calling(JSON_TEXT, null))[1], `[${WRITTEN}`)
  t.is(turns(of, calling(JSON_TEXT, ''))[1], `(${WRITTEN}`)
})

test('a call with 30,000 numbers takes time in proportion to them', (t) => {
  const template = Template.fromSource(
    '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}',
  )
  const given = Array.from({ length: 30_000 }, (_, i) => i)
  const call = { type: 'function', function: { name: 'f', arguments: { given } } }
  const messages = [user('a'), { ...assistant(''), tool_calls: [call] }, user('b'), assistant('c')]
  const from = process.cpuUsage()
  const { segments } = template.segments({ messages }, tokenizer, { trainOn: 'assistant' })
  const { user: spent } = process.cpuUsage(from)
  t.is(segments.filter(({ trained }) => trained).length, 2)
  // 0.4 s; a comparison of each piece with each other took 10 s.
  t.true(spent < 4e6, `${spent / 1e6} s`)
})
