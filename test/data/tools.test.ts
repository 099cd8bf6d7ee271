import test from 'ava'
import { readPreference, readRow, Template } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }

function read(row: object) {
  const example = readRow(row, origin)
  if (example.kind !== 'messages') throw new Error('a conversation expected')
  return example
}

const call = (args: unknown, more: object = {}) => ({
  ...more,
  type: 'function',
  function: { name: 'rain', arguments: args },
})
const parameters = { type: 'object', properties: { town: { type: 'string' } } }
const tool = { type: 'function', function: { name: 'rain', description: 'Rain', parameters } }
const flat = { name: 'rain', description: 'Rain', parameters }
const json = JSON.stringify
const town = { town: 'Ulm' }

const definitions: Record<string, object> = {
  'as templates have it': { tools: [tool] },
  'JSON of a list': { tools: json([tool]) },
  'a list of JSON': { tools: [json(tool)] },
  flat: { tools: [flat] },
  'flat with a type': { tools: [{ type: 'function', ...flat }] },
  'parameters as JSON': { tools: [{ ...flat, parameters: json(parameters) }] },
  'parameters as JSON inside a function': {
    tools: [{ ...tool, function: { ...flat, parameters: json(parameters) } }],
  },
  "Anthropic's name of the parameters": {
    tools: [{ name: 'rain', description: 'Rain', input_schema: parameters }],
  },
  "OpenAI's older API": { functions: [flat] },
  'mistral-finetune': { available_tools: [tool], tools: null },
  'columns of null and nothing': { tools: [tool], functions: [], available_tools: '' },
  'with the nulls of a table': {
    tools: [
      {
        ...tool,
        name: null,
        function: {
          ...flat,
          strict: null,
          parameters: {
            type: 'object',
            properties: { town: { type: 'string', enum: null, default: null, items: null }, day: null },
            required: null,
          },
        },
      },
    ],
  },
}
for (const [name, columns] of Object.entries(definitions)) {
  test(`tools are read in the form of templates: ${name}`, (t) => {
    t.deepEqual(read({ messages: [user('a'), assistant('b')], ...columns }).tools, [tool] as never)
  })
}

test('a null in a schema that has no other is a value of it', (t) => {
  const properties = {
    town: { anyOf: [{ type: 'string' }, { type: 'null' }], default: null, enum: ['x', null] },
  }
  const given = { ...tool, function: { ...flat, parameters: { type: 'object', properties } } }
  t.deepEqual(read({ messages: [user('a')], tools: [given] }).tools, [given] as never)
})

const empty = assistant('')
const calling = (...calls: object[]) => ({ ...empty, tool_calls: calls })
/** A turn without any content, which some templates tell from one whose content is empty. */
const bare = (...calls: object[]) => ({ ...calling(...calls), noContent: true })
const written = call(json(town))
const turns: Record<string, [given: object[], expected: object[]]> = {
  'arguments as JSON': [[{ ...empty, tool_calls: [written] }], [calling(written)]],
  'arguments as data': [[{ ...empty, tool_calls: [call(town)] }], [calling(call(town))]],
  'no content, with an id': [
    [{ role: 'assistant', content: null, tool_calls: [call(json(town), { id: 'c1' })] }],
    [bare(call(json(town), { id: 'c1' }))],
  ],
  'without arguments': [
    ['', null, undefined, ' '].map((args) => ({ ...empty, tool_calls: [call(args)] })),
    ['', '{}', '{}', ' '].map((args) => calling(call(args))),
  ],
  'calls as JSON': [[{ ...empty, tool_calls: json([call(town)]) }], [calling(call(town))]],
  'flat calls': [
    [{ ...empty, tool_calls: [{ id: 'c1', name: 'rain', arguments: town }] }],
    [calling(call(town, { id: 'c1' }))],
  ],
  'no calls': [
    [[], '', null].map((calls) => ({ ...assistant('b'), tool_calls: calls })),
    Array.from({ length: 3 }, () => assistant('b')),
  ],
  "OpenAI's older API": [
    [
      { role: 'assistant', content: null, function_call: { name: 'rain', arguments: json(town) } },
      { role: 'function', name: 'rain', content: '3 mm' },
    ],
    [bare(written), { role: 'tool', name: 'rain', content: '3 mm' }],
  ],
  ShareGPT: [
    [
      { from: 'function_call', value: json({ name: 'rain', arguments: town }) },
      { from: 'observation', value: '3 mm' },
    ],
    [bare(written), { role: 'tool', content: '3 mm' }],
  ],
  'ShareGPT, a list of calls': [
    [
      {
        from: 'function_call',
        value: json([
          { name: 'rain', arguments: town },
          { name: 'rain', arguments: json(town) },
        ]),
      },
    ],
    [bare(written, written)],
  ],
  'calls in a row are one turn, with the text before them': [
    [
      assistant('I look.'),
      { role: 'tool_call', content: json({ name: 'rain', arguments: town }) },
      { role: 'tool_call', content: json({ name: 'rain', arguments: {} }) },
      { role: 'tool_response', content: '3 mm' },
    ],
    [
      { ...calling(written, call('{}')), content: 'I look.' },
      { role: 'tool', content: '3 mm' },
    ],
  ],
  'a thought and tags around calls': [
    [
      {
        from: 'function_call',
        value: `<think>\nHm.\n</think>\n\n${json({ name: 'rain', arguments: town })}`,
      },
      { role: 'tool', content: '3' },
      {
        from: 'function_call',
        value: `I look.<tool_call>${json({ name: 'rain', arguments: town })}</tool_call>`,
      },
    ],
    [
      { ...calling(written), content: '<think>\nHm.\n</think>' },
      { role: 'tool', content: '3' },
      { ...calling(written), content: 'I look.' },
    ],
  ],
}
for (const [name, [given, expected]] of Object.entries(turns)) {
  test(`calls are read in the form of templates: ${name}`, (t) => {
    const { messages } = read({ messages: [user('a'), ...given] })
    t.deepEqual(messages.slice(1), expected as never)
  })
}

test('arguments keep their numbers, and the place of their keys, as a text and in templates that read them', (t) => {
  const text = '{"id": 1234567890123456789, "ratio": 1.0, "rows": {"20": "b", "3": "a"}}'
  const { messages } = read({ messages: [user('a'), { ...empty, tool_calls: [call(text)] }] })
  const render = (source: string) =>
    Template.fromSource(source).prompt({ messages: [...messages, user('b')] })
  const each = (filter: string) =>
    `{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.arguments${filter} }}{% endfor %}{% endfor %}`
  t.is(render(each(' | tojson')), `a${text}b`)
  t.is(render(each("['ratio']")), 'a1.0b')
  t.is(render(each(" + ''")), `a${text}b`)
})

test('null arguments that a table puts into calls are removed where the tools tell them', (t) => {
  const filled = { town: 'Ulm', day: null, hour: null }
  const said = { ...empty, tool_calls: [call(filled)] }
  const cleaned = [calling(call(town))]
  t.deepEqual(read({ messages: [user('a'), said], tools: [tool] }).messages.slice(1), cleaned as never)
  t.like(read({ prompt: [user('a')], completion: [said], tools: [tool] }).messages[1], cleaned[0]!)
  const { responses } = readPreference({ prompt: 'a', chosen: [said], rejected: 'b', tools: [tool] }, origin)
  t.like((responses[0] as { messages: object[] }).messages[1], cleaned[0]!)
  // A null of a parameter that the tool has is a value, as are those of calls without a definition.
  const ofTool = { ...empty, tool_calls: [call({ town: null })] }
  t.deepEqual(read({ messages: [user('a'), ofTool], tools: [tool] }).messages[1], ofTool as never)
  t.deepEqual(read({ messages: [user('a'), said] }).messages[1], said as never)
})

const refused: [object, RegExp][] = [
  [{ tools: '{' }, /^rows\.jsonl:7: tools must be a list, or JSON of one: /],
  [{ tools: { name: 'f' } }, /tools must be a list, got an object/],
  [{ tools: [5] }, /tools\[0\] must be an object, got a number/],
  [{ tools: [{ type: 'web_search' }] }, /tools\[0\] must be the definition of a function/],
  [
    { tools: [{ function: { description: 'x' } }] },
    /tools\[0\]\.function\.name must be a string, got nothing/,
  ],
  [{ tools: [{ name: 'f', parameters: '[' }] }, /tools\[0\]\.parameters must be an object, or JSON of one/],
  [{ tools: [flat], functions: [flat] }, /functions and tools both hold tools/],
  [
    { tools: [{ name: 'f', parameters: { run: () => 1 } }] },
    /tools\[0\]\.parameters\.run must be a JSON value/,
  ],
  [{ messages: [{ ...empty, tool_calls: [{}] }] }, /messages\[0\]\.tool_calls\[0\]\.name must be a string/],
  [
    { messages: [{ ...empty, tool_calls: [call('{"town": ')] }] },
    /\.function\.arguments must be an object, or JSON of one: /,
  ],
  [
    { messages: [{ ...empty, tool_calls: [call('[1]')] }] },
    /\.function\.arguments must be an object, or JSON of one, got a list/,
  ],
  [
    { messages: [{ ...empty, tool_calls: [call(5)] }] },
    /\.function\.arguments must be an object, or JSON of one, got a number/,
  ],
  [
    { messages: [{ ...empty, function_call: { name: 'f', arguments: '{}' }, tool_calls: [call({})] }] },
    /messages\[0\]\.function_call and tool_calls both hold calls/,
  ],
  [
    { messages: null, conversations: [{ from: 'function_call', value: 'rain(Ulm)' }] },
    /conversations\[0\]\.value must be a list of calls, or JSON of one/,
  ],
  [
    {
      messages: [
        { ...assistant('x'), weight: 0 },
        { role: 'tool_call', content: '{"name": "f"}' },
      ],
    },
    /messages\[1\] belongs to the turn before it, of which only one part is trained/,
  ],
]
for (const [row, message] of refused) {
  test(`tools that cannot be converted are named: ${message.source}`, (t) => {
    t.throws(() => readRow({ messages: [user('a')], ...row }, origin), { code: 'ERR_DATA', message })
  })
}
