import test from 'ava'
import type { JsonData } from '../../../lib/data/rows/json-data.js'
import { JinjaTemplate, type Rendering } from '../../../lib/data/text/jinja/index.js'

const variables: Record<string, JsonData> = {
  messages: [
    { role: 'user', content: ' Hi <you> ', n: 7, f: new Number(2) },
    { role: 'assistant', content: 'straße|ok', calls: [{ args: { city: 'Rome', yes: true, none: null } }] },
  ],
  eos: '</s>',
}

function render(source: string): Rendering {
  return JinjaTemplate.parse(source, 'origins').render(variables)
}

/** The stretches of a rendering: text, and where it comes from as `messages.0.content`, with the part where it is not the value. */
function stretches(source: string): [text: string, from: string | null][] {
  const { text, runs } = render(source)
  return runs.map(({ from, to, origin }) => [
    text.slice(from, to),
    origin && `${origin.path.join('.')}${origin.part === 'value' ? '' : `:${origin.part}`}`,
  ])
}

test('what the template writes has no origin, what it takes from the data has its path', (t) => {
  t.deepEqual(stretches('<{{ messages[0].role }}>{{ messages[0]["content"] }}{{ eos }}{{ 1 + 1 }}'), [
    ['<', null],
    ['user', 'messages.0.role'],
    ['>', null],
    [' Hi <you> ', 'messages.0.content'],
    ['</s>', 'eos'],
    ['2', null],
  ])
})

const content = 'messages.0.content'
const operations: [source: string, stretches: [string, string | null][]][] = [
  ['{{ messages[0].content | trim }}', [['Hi <you>', content]]],
  ['{{ messages[0].content.strip()[1:4] }}', [['i <', content]]],
  ['{{ messages[0].content[::-1] | trim }}', [['>uoy< iH', content]]],
  ['{{ messages[0].content.upper() | trim }}', [['HI <YOU>', content]]],
  ['{{ (messages[0].content | trim)[-1] }}', [['>', content]]],
  ['{{ messages[0].content.split("<")[1] | trim }}', [['you>', content]]],
  [
    '{{ messages[0].content | trim | replace("<", "[") }}',
    [
      ['Hi ', content],
      ['[', null],
      ['you>', content],
    ],
  ],
  [
    '{{ "a" ~ messages[0].content.strip() + "b" }}',
    [
      ['a', null],
      ['Hi <you>', content],
      ['b', null],
    ],
  ],
  [
    '{{ ("a" + messages[0].role + "b") | upper }}',
    [
      ['A', null],
      ['USER', 'messages.0.role'],
      ['B', null],
    ],
  ],
  [
    '{{ ("a" + messages[1].content + "b") | upper }}',
    [
      ['A', null],
      ['STRASSE|OK', 'messages.1.content'],
      ['B', null],
    ],
  ],
  [
    '{{ messages | map(attribute="role") | join(",") }}',
    [
      ['user', 'messages.0.role'],
      [',', null],
      ['assistant', 'messages.1.role'],
    ],
  ],
  [
    '{{ "<%s>" % messages[0].role }}',
    [
      ['<', null],
      ['user', 'messages.0.role'],
      ['>', null],
    ],
  ],
  [
    '{{ "<{}>".format(messages[0].role) }}',
    [
      ['<', null],
      ['user', 'messages.0.role'],
      ['>', null],
    ],
  ],
  ['{{ "%s" | format(messages[0].role) }}', [['user', 'messages.0.role']]],
  [
    '{{ messages[0].role.center(6, "*") }}',
    [
      ['*', null],
      ['user', 'messages.0.role'],
      ['*', null],
    ],
  ],
  [
    '{{ messages[0].role | e }}{{ messages[0].content | trim | e }}',
    [
      ['user', 'messages.0.role'],
      ['Hi &lt;you&gt;', content],
    ],
  ],
  ['{{ messages[0].role | list | first }}', [['u', 'messages.0.role']]],
  ['{% for c in messages[0].role %}{{ c }}{% endfor %}', [['user', 'messages.0.role']]],
  ['{{ messages[0].role | title }}{{ messages[0].role.capitalize() }}', [['UserUser', 'messages.0.role']]],
  ['{{ messages[0].role * 2 }}', [['useruser', 'messages.0.role']]],
  ['{{ messages[1].content.partition("|")[2] }}', [['ok', 'messages.1.content']]],
  ['{{ messages[1].content.removesuffix("ok") }}', [['straße|', 'messages.1.content']]],
  [
    '{{ ("a\n" ~ messages[0].role) | indent(2, true) }}',
    [
      ['  a\n  ', null],
      ['user', 'messages.0.role'],
    ],
  ],
  ['{{ messages[0].nothing | default(messages[0].role) }}', [['user', 'messages.0.role']]],
  ['{{ messages[0].role if true else "x" }}', [['user', 'messages.0.role']]],
  [
    '{% set x %}<{{ messages[0].role }}{% endset %}{{ x }}',
    [
      ['<', null],
      ['user', 'messages.0.role'],
    ],
  ],
  [
    '{% macro f(x) %}<{{ x }}{% endmacro %}{{ f(messages[0].role) | upper }}',
    [
      ['<', null],
      ['USER', 'messages.0.role'],
    ],
  ],
  [
    '{% filter upper %}a{{ messages[0].role }}{% endfilter %}',
    [
      ['A', null],
      ['USER', 'messages.0.role'],
    ],
  ],
  [
    '{{ messages[0].n }}{{ messages[0].f }}',
    [
      ['7', 'messages.0.n'],
      ['2.0', 'messages.0.f'],
    ],
  ],
  ['{{ "%d" % messages[0].n }}{{ messages[0].n | string }}', [['77', 'messages.0.n']]],
  ['{{ messages[0].n == 7 }}{{ messages[0].role | length }}', [['True4', null]]],
  [
    '{% for k, v in messages[1].calls[0].args.items() %}{{ k }}{% endfor %}',
    [
      ['city', 'messages.1.calls.0.args.city:key'],
      ['yes', 'messages.1.calls.0.args.yes:key'],
      ['none', 'messages.1.calls.0.args.none:key'],
    ],
  ],
]

test('the origin of a character survives string operations', (t) => {
  for (const [source, runs] of operations) t.deepEqual(stretches(source), runs, source)
})

test('JSON and the spelling of Python tell keys, values and punctuation apart', (t) => {
  const args = 'messages.1.calls.0.args'
  t.deepEqual(stretches('{{ messages[1].calls[0].args | tojson }}'), [
    ['{"', `${args}:syntax`],
    ['city', `${args}.city:key`],
    ['": ', `${args}:syntax`],
    ['"', `${args}.city:syntax`],
    ['Rome', `${args}.city`],
    ['"', `${args}.city:syntax`],
    [', "', `${args}:syntax`],
    ['yes', `${args}.yes:key`],
    ['": ', `${args}:syntax`],
    ['true', `${args}.yes`],
    [', "', `${args}:syntax`],
    ['none', `${args}.none:key`],
    ['": ', `${args}:syntax`],
    ['null', `${args}.none`],
    ['}', `${args}:syntax`],
  ])
  t.deepEqual(stretches('{{ [messages[0].role, "x"] | tojson }}'), [
    ['[', null],
    ['"', 'messages.0.role:syntax'],
    ['user', 'messages.0.role'],
    ['"', 'messages.0.role:syntax'],
    [', "x"]', null],
  ])
  t.is(
    stretches('{{ messages[1].calls }}')
      .map(([text]) => text)
      .join(''),
    "[{'args': {'city': 'Rome', 'yes': True, 'none': None}}]",
  )
})

test('generation blocks are marked where their text is printed', (t) => {
  const marked = (source: string) => {
    const { text, generation } = render(source)
    return generation.map(({ from, to }) => text.slice(from, to))
  }
  t.deepEqual(
    marked(
      '{% for m in messages %}<{% generation %}{{ m.role }}{% endgeneration %}>{% endfor %}{% generation %}{% endgeneration %}',
    ),
    ['user', 'assistant', ''],
  )
  const macro = '{% macro f(x) %}  <{% generation %}{{ x }}!{% endgeneration %}>  {% endmacro %}'
  t.deepEqual(marked(`${macro}{{ f("a") | trim | upper }}{{ f(messages[0].role) }}`), ['A!', 'user!'])
  t.true(JinjaTemplate.parse('{%- generation -%}{%- endgeneration -%}', 'g').marksGeneration)
  t.false(JinjaTemplate.parse('{# {% generation %} #}', 'g').marksGeneration)
})

test('a template reaches own data only, never a host object', (t) => {
  const data = JSON.parse('{"__proto__": "own", "constructor": "key"}') as JsonData
  const read = (source: string) =>
    JinjaTemplate.parse(source, 'host').render({ data, text: 'x', list: [1] }).text
  t.is(read('{{ data["constructor"] }}{{ data.constructor }}'), 'keykey')
  t.is(read('{{ data["__proto__"] }}'), 'own')
  for (const name of [
    'constructor',
    '__proto__',
    'prototype',
    'toString',
    'hasOwnProperty',
    '__class__',
    'length',
    'at',
  ]) {
    t.is(
      read(`{{ text.${name} is defined }}{{ list.${name} is defined }}{{ [].${name} is defined }}`),
      'FalseFalseFalse',
    )
    t.is(
      read(`{{ {}.${name} is defined }}{{ namespace().${name} is defined }}{{ range.${name} is defined }}`),
      'FalseFalseFalse',
    )
  }
  for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) {
    t.is(read(`{{ ${name} is defined }}`), 'False')
    t.throws(() => read(`{{ 1 | ${name} }}`), { message: /no filter is named/ })
    t.throws(() => read(`{{ 1 is ${name} }}`), { message: /no test is named/ })
  }
  for (const value of [new Date(0), () => 1, Symbol.iterator, new (class A {})()]) {
    t.throws(() => JinjaTemplate.parse('{{ x }}', 'host').render({ x: value as unknown as JsonData }), {
      message: /x is not JSON data/,
    })
  }
})
