import test from 'ava'
import type { JsonData } from '../../../lib/data/rows/json-data.js'
import { JinjaTemplate, type Limits } from '../../../lib/data/text/jinja/index.js'
import { type ErrorCode, PosttrainError } from '../../../lib/errors.js'

/** The error of a template and the processor's milliseconds until it was thrown. */
function refusal(source: string, variables: Record<string, JsonData> = {}, limits?: Partial<Limits>) {
  const from = process.cpuUsage()
  try {
    const { text } = JinjaTemplate.parse(source, 'hostile').render(variables, limits ? { limits } : {})
    throw new Error(`rendered ${text.length} characters`)
  } catch (error) {
    if (!(error instanceof PosttrainError)) throw error
    const { user, system } = process.cpuUsage(from)
    return { code: error.code, message: error.message, milliseconds: (user + system) / 1000 }
  }
}

const LOOP = '{% for i in range(2000) %}'
const hostile: [what: string, source: string, code: ErrorCode, message: RegExp][] = [
  [
    'a range of a billion',
    '{% for i in range(1000000000) %}{% endfor %}',
    'ERR_DATA',
    /more than 100000 numbers/,
  ],
  ['loops in loops', `${LOOP.repeat(3)}${'{% endfor %}'.repeat(3)}`, 'ERR_DATA', /more than \d+ steps/],
  [
    'a macro that calls itself twice',
    '{% macro f(n) %}{% if n > 0 %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}',
    'ERR_DATA',
    /more than \d+ steps/,
  ],
  ['200 kB of spaces in a tag', `{%-${' '.repeat(200_000)}`, 'ERR_INVALID_FILE', /line 1/],
  [
    '50 MB of text',
    'x'.repeat(50_000_000),
    'ERR_INVALID_FILE',
    /50000000 characters, more than the limit of 1048576/,
  ],
  [
    'a macro without an end',
    '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
    'ERR_DATA',
    /more than 200 calls/,
  ],
  ['a repeated string', '{{ "x" * 1000000000 }}', 'ERR_DATA', /characters/],
  ['a repeated list', '{{ [1] * 1000000000 }}', 'ERR_DATA', /steps/],
  ['a wide field', '{{ "%1000000000d" % 1 }}', 'ERR_DATA', /characters/],
  ['a wide format', '{{ "{:1000000000}".format(1) }}', 'ERR_DATA', /characters/],
  ['a centered string', '{{ "x".center(1000000000) }}', 'ERR_DATA', /characters/],
  ['a deep indent', '{{ [1] | tojson(indent=1000000000) }}', 'ERR_DATA', /indent/],
  ['an indented text', '{{ "x" | indent(1000000000, true) }}', 'ERR_DATA', /characters/],
  ['a long batch', '{{ [1] | batch(1000000000, 0) | list }}', 'ERR_DATA', /steps/],
  ['many slices', '{{ [1] | slice(1000000000) | list }}', 'ERR_DATA', /steps/],
  ['a huge power', '{{ 9 ** 999999999 }}', 'ERR_DATA', /digits/],
  [
    'a squared number',
    '{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}',
    'ERR_DATA',
    /digits/,
  ],
  [
    'a doubled string',
    '{% set ns = namespace(s="x") %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}',
    'ERR_DATA',
    /characters|steps/,
  ],
  [
    'a doubled list',
    '{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'a nested list',
    '{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}',
    'ERR_DATA',
    /inside each other/,
  ],
  [
    'a replacement that grows',
    '{% set ns = namespace(s="a") %}{% for i in range(30) %}{% set ns.s = ns.s | replace("a", "a" * 10) %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'titles',
    '{% for i in range(99) %}{% set x = ("ab " * 100000) | title %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'lengths beyond the BMP',
    '{% set s = "😀" * 500000 %}{% for i in range(9999) %}{% set x = s | length %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'a search in vain',
    '{% set s = "a" * 1000000 %}{% for i in range(9999) %}{% set x = s.count("a") %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'a long text searched in a longer one',
    '{% set s = "a" * 1000000 %}{% set t = "b" ~ "a" * 500000 %}{{ t in s }}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'a key of tuples in tuples',
    '{% set ns = namespace(t=(1,)) %}{% for i in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'opened HTML',
    '{% for i in range(9999) %}{% set x = ("<" * 100000) | striptags %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  ['HTML', '{{ ("<b>" * 300000) | striptags }}', 'ERR_DATA', /steps/],
  [
    'floats of long texts',
    '{% for i in range(9999) %}{% set x = ("9" * 1000000) | float %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'long numbers written',
    '{% set b = 9 ** 4000 %}{% for i in range(9999) %}{% set x = b | string %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  [
    'comparisons beyond the BMP',
    '{% set s = "😀a" * 50000 %}{% for i in range(9999) %}{% set x = s < s ~ "a" %}{% endfor %}',
    'ERR_DATA',
    /steps/,
  ],
  ['zeros in groups', '{{ "{:030000000,}".format(1) }}', 'ERR_DATA', /steps/],
  ['parentheses', `{{ ${'('.repeat(5000)}1${')'.repeat(5000)} }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['lists', `{{ ${'['.repeat(5000)}${']'.repeat(5000)} }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['signs', `{{ ${'-'.repeat(5000)}1 }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['negations', `{{ ${'not '.repeat(5000)}1 }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['a chain of sums', `{{ 1${'+1'.repeat(5_000)} }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['a chain of filters', `{{ 1${'|abs'.repeat(5_000)} }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['a chain of attributes', `{{ x${'.a'.repeat(5_000)} }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['conditions', `{{ ${'1 if 1 else '.repeat(3000)}1 }}`, 'ERR_INVALID_FILE', /inside each other/],
  ['blocks', '{% if 1 %}'.repeat(3000), 'ERR_INVALID_FILE', /inside each other/],
  ['opened tags', '{%'.repeat(100_000), 'ERR_INVALID_FILE', /line 1/],
  ['opened comments', '{#'.repeat(100_000), 'ERR_INVALID_FILE', /line 1/],
  ['spaces before tags', `${' '.repeat(1000)}{%`.repeat(900), 'ERR_INVALID_FILE', /line 1/],
  ['many statements', '{% set a = 1 %}'.repeat(60_000), 'ERR_INVALID_FILE', /more than 16384 words/],
  ['many loops', `{%for a in b%}${'x'.repeat(20)}{%endfor%}`.repeat(20_000), 'ERR_INVALID_FILE', /words/],
  [
    'blocks in blocks, many times',
    `${'{%for a in b%}'.repeat(149)}${'{%endfor%}'.repeat(149)}`.repeat(280),
    'ERR_INVALID_FILE',
    /words/,
  ],
  [
    'many arguments',
    `{{ f(${Array.from({ length: 4_000 }, (_, i) => `a${i}=1`).join()}) }}`,
    'ERR_DATA',
    /'f'/,
  ],
  [
    'many keys',
    `{{ {${Array.from({ length: 80_000 }, (_, i) => `${i}:1`).join()}} }}`,
    'ERR_INVALID_FILE',
    /words/,
  ],
  ['escapes', `{{ "${'\\n'.repeat(500_000)}" }}`, 'ERR_INVALID_FILE', /to compile it/],
  ['a long number', `{{ ${'9'.repeat(1_000_000)} }}`, 'ERR_INVALID_FILE', /4300 digits/],
  ['a string without an end', `{{ "${'\\a'.repeat(100_000)}`, 'ERR_INVALID_FILE', /line 1/],
]

for (const [what, source, code, message] of hostile) {
  test(`a hostile template ends in a typed error: ${what}`, (t) => {
    const error = refusal(source)
    t.is(error.code, code)
    t.regex(error.message, message)
    t.true(error.message.startsWith('the hostile template'))
    t.log(`${error.milliseconds.toFixed(0)} ms`)
    // Below 100 ms; the bound leaves room for slow machines.
    t.true(error.milliseconds < 500)
  })
}

test('data nested 5,000 lists deep is a typed error, not a stack overflow', (t) => {
  const nested = () => {
    let deep: JsonData = []
    for (let i = 0; i < 5000; i++) deep = i % 2 === 0 ? [deep] : { a: deep }
    return deep
  }
  for (const source of [
    '{{ x }}',
    '{{ x | tojson }}',
    '{{ x == y }}',
    '{{ x | string }}',
    '{{ [x] | sort == [y] }}',
    '{{ "%s" % (x,) }}',
  ]) {
    const error = refusal(source, { x: nested(), y: nested() })
    t.is(error.code, 'ERR_DATA')
    t.regex(error.message, /more than 500 lists and dicts inside each other/)
  }
})

test('limits may be set for one rendering', (t) => {
  const template = JinjaTemplate.parse('{% for i in range(100) %}{{ i }}{% endfor %}', 'small')
  t.is(template.render({}, { limits: { length: 190 } }).text.length, 190)
  t.throws(() => template.render({}, { limits: { length: 189 } }), { message: /more than 189 characters/ })
  t.throws(() => template.render({}, { limits: { steps: 100 } }), { message: /more than 100 steps/ })
})

test('a conversation of 2,000 turns and tools of 100 kB stay far within the limits', (t) => {
  const messages = Array.from({ length: 2000 }, (_, i) => ({
    role: i % 2 === 0 ? 'user' : 'assistant',
    content: `turn ${i} `.repeat(100),
  }))
  const tools = Array.from({ length: 100 }, (_, i) => ({ name: `tool${i}`, description: 'd'.repeat(1000) }))
  const source =
    '{{ tools | tojson(indent=2) }}{% for m in messages %}{% set rest = messages[loop.index:] %}{{ m.role }}{{ rest | length }}{{ m.content | trim }}{% endfor %}'
  const { text } = JinjaTemplate.parse(source, 'long').render(
    { messages, tools },
    { limits: { steps: 1_000_000 } },
  )
  t.true(text.length > 1_700_000)
  // Some templates go through all messages for each of them.
  const quadratic = '{% for m in messages %}{% for n in messages %}{% endfor %}{% endfor %}'
  t.is(JinjaTemplate.parse(quadratic, 'long').render({ messages }).text, '')
  t.throws(
    () => JinjaTemplate.parse(quadratic, 'long').render({ messages }, { limits: { steps: 3_000_000 } }),
    {
      message: /more than 3000000 steps/,
    },
  )
})

test('200 messages of 20 kB with an emoji each stay far within the limits', (t) => {
  const messages = Array.from({ length: 200 }, (_, i) => ({
    role: 'user',
    content: `😀${i}${'abcd '.repeat(4_000)}`,
  }))
  const source =
    "{% for m in messages %}{% if m.content | length > 0 and m.content[0] != ' ' and m.content.find('zz') < 0 %}{{ m.content[1:] | trim }}{{ m.content.split('😀')[-1] | length }}{% endif %}{% endfor %}"
  const { text } = JinjaTemplate.parse(source, 'long').render({ messages }, { limits: { steps: 2_900_000 } })
  t.true(text.length > 3_900_000)
})

test('a text that is collected piece by piece costs as much as its pieces', (t) => {
  const property = { type: 'string', description: 'd'.repeat(40) }
  const tools = Array.from({ length: 200 }, (_, i) => ({
    name: `tool${i}`,
    properties: Object.fromEntries(Array.from({ length: 20 }, (_, k) => [`p${k}`, property])),
  }))
  const source =
    '{% set ns = namespace(s="") %}{% for tool in tools %}{% for name, p in tool.properties.items() %}{% set ns.s = ns.s + tool.name + "." + name + ": " + (p | tojson) + "\n" %}{% endfor %}{% endfor %}{{ ns.s }}'
  const { text, runs } = JinjaTemplate.parse(source, 'tools').render(
    { tools },
    { limits: { steps: 700_000 } },
  )
  t.is(text.split('\n').length, 4_001)
  const first = runs
    .slice(0, 4)
    .map(({ from, to, origin }) => [text.slice(from, to), origin?.path.join('.') ?? null])
  t.deepEqual(first, [
    ['tool0', 'tools.0.name'],
    ['.', null],
    ['p0', 'tools.0.properties.p0'],
    [': ', null],
  ])
})

test('striptags refuses the names and numbers of characters, and keeps an ampersand that is none', (t) => {
  const render = (text: string) => JinjaTemplate.parse('{{ s | striptags }}', 'html').render({ s: text }).text
  t.is(render('AT&T <b>x</b> & R&D Q&A?a=1&b'), 'AT&T x & R&D Q&A?a=1&b')
  for (const text of ['&lt;', '&amp', '&#65', '&#x41;', '&notit;', '&hellip;'])
    t.throws(() => render(text), { code: 'ERR_DATA', message: /HTML entities/ }, text)
})
