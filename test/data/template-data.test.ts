import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { RowEncoder } from '../../lib/data/encode/encode.js'
import { withReasoning } from '../../lib/data/encode/reasoning.js'
import {
  type EncodedRow,
  type EncodeOptions,
  type Example,
  encodeRow,
  loadDataset,
  type Message,
  readRow,
  Template,
  Tokenizer,
} from '../../lib/data/index.js'
import { readPrompt } from '../../lib/data/rows/prompt-rows.js'
import type { StringForm } from '../../lib/data/rows/string-rows.js'
import { chooseTemplate } from '../../lib/data/text/templates.js'
import { newFolder } from '../helpers/scratch.js'
import { tokenizerOf } from '../helpers/template-fixture.js'

const FOLDER = join('test', 'fixtures', 'templates')
const source = (name: string) => readFile(join(FOLDER, `${name}.jinja`), 'utf8')

const tokenizer = tokenizerOf({
  name: '',
  tagged: false,
  rows: [],
  special: ['<|im_start|>', '<|im_end|>', '<|endoftext|>', '<|IM_END|>'],
  plain: ['<think>', '</think>', '<tool_call>', '<｜User｜>', '<｜Assistant｜>'],
  bos: '',
  eos: '<|im_end|>',
})
const user = (content: string, more: object = {}): Message => ({ role: 'user', content, ...more })
const assistant = (content: string, more: object = {}): Message => ({ role: 'assistant', content, ...more })

type Conversation = Extract<Example, { kind: 'messages' }>

const options: EncodeOptions & StringForm = {
  maxLength: 4096,
  trainOn: 'assistant',
  overflow: 'error',
  strings: 'turn',
  rendered: false,
}

function encode(
  template: Template,
  messages: Message[],
  more: Partial<Conversation & EncodeOptions> = {},
): EncodedRow {
  const example: Conversation = { kind: 'messages', messages, weight: 1, ...more }
  const row = encodeRow(example, tokenizer, template, { ...options, ...more })
  if (typeof row === 'string') throw new Error(row)
  return row
}

/** The row as text, with what is trained between ⟦ and ⟧. */
function shown({ inputIds, labels }: EncodedRow): string {
  let text = ''
  for (let at = 0; at < inputIds.length; ) {
    const trained = labels[at] !== -100
    let end = at
    while (end < inputIds.length && (labels[end] !== -100) === trained) end++
    const piece = tokenizer.decode(inputIds.slice(at, end), { skipSpecialTokens: false })
    text += trained ? `⟦${piece}⟧` : piece
    at = end
  }
  return text
}

const count = (row: EncodedRow, token: string) => {
  const id = tokenizer.tokenToId(token)
  return row.inputIds.filter((each) => each === id).length
}

test('no data becomes a special token, however a template writes them', (t) => {
  const around = (inside: string) =>
    Template.fromSource(
      `{% for m in messages %}{{ '<|im_start|>' + m.role + ':' }}{% if m.role == 'user' %}${inside}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant:' }}{% endif %}`,
    )
  const cases: [inside: string, message: Message, more?: Partial<Conversation>][] = [
    ['{{ m.content }}', user('a<|im_end|>b')],
    ["{{ '<|' + m.content }}", user('im_end|>')],
    ["{{ m.content + '|>' }}", user('<|im_end')],
    ["{{ '<|im_' ~ m.content ~ '|>' }}", user('end')],
    ['{{ m.content | lower }}', user('<|IM_END|>')],
    ['{{ m.content | upper }}', user('<|im_end|>')],
    ["{{ m.content | replace('x', '') }}", user('<|imx_end|>')],
    ["{{ m.content.split('#') | join('') }}", user('<|im#_end|>')],
    ['{{ m.content ~ m.more }}', user('<|im_', { more: 'end|>' })],
    ['{{ m.content }}{{ m.more }}', user('<|', { more: 'im_end|>' })],
    ['{{ m | tojson }}', user('a', { '<|im_end|>': 1 })],
    ['{{ tools | tojson }}{{ m.content }}', user('a'), { tools: [{ name: '<|endoftext|>' }] }],
    ['{{ tools | tojson }}{{ m.content }}', user('a'), { tools: [{ '<|endoftext|>': true }] }],
    ['{{ more }}{{ m.content }}', user('a'), { templateArguments: { more: '<|im_end|>' } }],
  ]
  for (const [inside, message, more] of cases) {
    const row = encode(around(inside), [message, assistant('ok')], more)
    t.is(count(row, '<|im_end|>') + count(row, '<|IM_END|>') + count(row, '<|endoftext|>'), 2, inside)
    t.is(count(row, '<|im_start|>'), 2, inside)
    t.is(row.conversation!.guarded, 1, inside)
    const prompt = around(inside).promptIds({ messages: [message], ...more }, tokenizer)
    t.deepEqual(prompt, row.inputIds.slice(0, prompt.length), inside)
  }
})

test('turn markers that the tokenizer does not flag as special are guarded, other added tokens are tokens', async (t) => {
  const template = Template.fromSource(await source('distill'))
  const row = encode(template, [user('a<｜User｜>b<think>'), assistant('c<｜Assistant｜>d<think>e')])
  t.is(count(row, '<｜User｜>'), 1)
  t.is(count(row, '<｜Assistant｜>'), 1)
  t.is(count(row, '<think>'), 2)
  t.is(row.conversation!.guarded, 2)
})

test('a role in the name of a mark is the template’s word, another text is not', (t) => {
  const template = Template.fromSource(
    "{% for m in messages %}{{ '<|im_start|>' }}{{ m.name or m.role }}:{{ m.content }}{{ '<|im_end|>' }}{% endfor %}",
  )
  t.is(count(encode(template, [user('a', { name: '<|im_end|>' }), assistant('b')]), '<|im_end|>'), 2)
})

test('where the generation prompt is not whole, what follows its last shared token is trained, and counted', async (t) => {
  const template = Template.fromSource(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
  )
  const row = encode(template, [user('One?'), assistant('First.')])
  t.is(shown(row), '<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n⟦First.<|im_end|>⟧')
  t.true(row.conversation!.partialPrompt)
  // Content that happens to agree with the prompt is content.
  const agreeing = encode(template, [user('One?'), assistant('<think>\nFirst.')])
  t.regex(shown(agreeing), /assistant\n⟦<think>\nFirst\.<\|im_end\|>⟧$/)
  t.true(agreeing.conversation!.partialPrompt)
  const { train } = await loadDataset([{ messages: [user('One?'), assistant('First.')] }], {
    ...options,
    tokenizer,
    template,
    onBadRow: 'error',
    seed: 0,
    needsStop: true,
  })
  t.is(train.report.partialPrompts, 1)
  t.is(train.report.unstoppedTurns, 0)
  await train.store.close()
})

test('a mark that generation does not stop at is context behind an answer and trained inside one', async (t) => {
  const harmony = tokenizerOf({
    name: '',
    tagged: false,
    rows: [],
    special: ['<|start|>', '<|end|>', '<|message|>', '<|channel|>', '<|return|>', '<|call|>'],
    plain: [],
    bos: '',
    eos: '<|return|>',
  })
  const template = Template.fromSource(await source('harmony'))
  const messages = [user('a'), assistant('b'), user('c'), assistant('d', { thinking: 'hm' })]
  const trained = (stopIds: number[] = []) => {
    const stopping = Tokenizer.fromFiles({ ...harmony.files, stopIds })
    const { segments, counts } = template.segments({ messages }, stopping, { trainOn: 'assistant' })
    return [segments.filter((each) => each.trained).map(({ text }) => text), counts.unstopped]
  }
  const last =
    '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>d<|return|>'
  t.deepEqual(trained(), [['<|channel|>final<|message|>b', last], true])
  const end = harmony.tokenToId('<|end|>')!
  t.deepEqual(trained([end]), [['<|channel|>final<|message|>b<|end|>', last], false])
  t.deepEqual(
    template.terminators(harmony).map((id) => harmony.idToToken(id)),
    ['<|return|>', '<|call|>'],
  )
})

test('what a template leaves out is an error that names it', (t) => {
  const template = Template.fromSource(
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  )
  const calls = [{ type: 'function', function: { name: 'f', arguments: {} } }]
  const cases: [Message[], Partial<Conversation>, RegExp][] = [
    [[user('a'), assistant('', { tool_calls: calls })], {}, /does not render messages\[1\]\.tool_calls/],
    [
      [user('a'), { role: 'tool', content: 'r' }, assistant('b')],
      {},
      /does not render messages\[1\]\.content/,
    ],
    [[{ role: 'system', content: 's' }, user('a'), assistant('b')], {}, /messages\[0\]\.content/],
  ]
  for (const [messages, more, message] of cases) {
    t.throws(() => encode(template, messages, more), { code: 'ERR_DATA', message })
    const before = { messages: messages.slice(0, -1), ...more }
    if (messages.some(({ tool_calls: made }) => made !== undefined)) continue
    t.throws(() => template.promptIds(before, tokenizer), { code: 'ERR_DATA', message })
  }
  const left = encode(template, [user('a'), assistant('b')], { tools: [{ name: 'f' }] })
  t.true(left.conversation!.droppedTools)
  t.notThrows(() => encode(template, [user('a'), { role: 'tool', content: ' ' }, assistant('b')]))
})

test('arguments come from the run and from the row, which counts first', async (t) => {
  const template = Template.fromSource(await source('thinking'))
  const messages = [user('a'), assistant('b')]
  const off = { enable_thinking: false }
  const prompt = (of: Template, templateArguments?: Record<string, unknown>) =>
    of.prompt({ messages: [user('a')], ...(templateArguments && { templateArguments }) })
  t.true(prompt(template).endsWith('assistant\n'))
  t.true(prompt(template, off).endsWith('<think>\n\n</think>\n\n'))
  const bound = template.with({ arguments: off })
  t.true(prompt(bound).endsWith('<think>\n\n</think>\n\n'))
  t.true(prompt(bound, { enable_thinking: true }).endsWith('assistant\n'))
  t.regex(shown(encode(bound, messages)), /<\/think>\n\n⟦b<\|im_end\|>⟧$/)
  t.regex(shown(encode(template, messages)), /assistant\n⟦<think>\n\n<\/think>\n\nb<\|im_end\|>⟧$/)
  const encoder = new RowEncoder(tokenizer, bound, options)
  t.teardown(() => encoder.close())
  const long = [user('a '.repeat(3000)), assistant('b')]
  const [one] = await encoder.encode([{ kind: 'messages', messages: long, weight: 1 }])
  t.regex(shown((one as { rows: EncodedRow[] }).rows[0]!), /<\/think>\n\n⟦b<\|im_end\|>⟧$/)
})

test('the time of a template is that of the run', (t) => {
  const template = Template.fromSource("{{ strftime_now('%Y-%m-%d') }}{{ messages[0].content }}")
  t.true(template.tellsTime)
  const then = template.with({ now: new Date(2026, 0, 2) })
  t.is(then.prompt({ messages: [user('a')] }), '2026-01-02a')
})

test('a prompt that ends in the assistant’s turn is continued', async (t) => {
  const template = Template.fromSource(await source('chatml'))
  const messages = [user('Name a tree.'), assistant('An oa')]
  const prompt = '<|im_start|>user\nName a tree.<|im_end|>\n<|im_start|>assistant\nAn oa'
  t.is(template.prompt({ messages }), prompt)
  const row = encode(template, [user('Name a tree.'), assistant('An oak.')], {
    prefill: { index: 1, message: assistant('An oa') },
  })
  t.is(shown(row), `${prompt}⟦k.<|im_end|>⟧`)
  const ids = template.promptIds({ messages }, tokenizer)
  t.deepEqual(row.inputIds.slice(0, ids.length), ids)
  t.is(
    row.labels.findIndex((label) => label !== -100),
    ids.length,
  )
})

test('a row whose prompt ends in the assistant’s turn trains what follows', async (t) => {
  const template = Template.fromSource(await source('chatml'))
  const row = { prompt: [user('Name a tree.'), assistant('An oa')], completion: [assistant('k.')] }
  const origin = { source: 'rows', line: 1 }
  const example = readRow(row, origin) as Conversation
  const encoded = encode(template, example.messages, example)
  t.regex(shown(encoded), /assistant\nAn oa⟦k\.<\|im_end\|>⟧$/)
  const ids = template.promptIds(readPrompt(row, origin) as { messages: Message[] }, tokenizer)
  t.deepEqual(encoded.inputIds.slice(0, ids.length), ids)
})

test('reasoning is left to the template and counted, dropped, or kept in rows of their own', async (t) => {
  const thinking = Template.fromSource(await source('thinking'))
  const messages = [
    user('a'),
    assistant('b', { reasoning_content: 'first' }),
    user('c'),
    assistant('d', { reasoning_content: 'second' }),
  ]
  const rows = (template: Template, reasoning: 'template' | 'drop' | 'keep', of = messages) =>
    withReasoning({ kind: 'messages', messages: of, weight: 1 } as Conversation, reasoning).map((example) =>
      encode(template, example.messages, { reasoning }),
    )
  const trained = (of: EncodedRow[]) => of.map((row) => shown(row).match(/⟦[^⟧]*⟧/g)!)
  const left = rows(thinking, 'template')
  t.deepEqual(trained(left), [['⟦b<|im_end|>⟧', '⟦<think>\nsecond\n</think>\n\nd<|im_end|>⟧']])
  t.true(left[0]!.conversation!.droppedReasoning)
  const dropped = rows(thinking, 'drop')
  t.deepEqual(trained(dropped), [['⟦b<|im_end|>⟧', '⟦<think>\n\n</think>\n\nd<|im_end|>⟧']])
  t.false(dropped[0]!.conversation!.droppedReasoning)
  const kept = rows(thinking, 'keep')
  t.deepEqual(trained(kept), [
    ['⟦<think>\nfirst\n</think>\n\nb<|im_end|>⟧'],
    ['⟦<think>\nsecond\n</think>\n\nd<|im_end|>⟧'],
  ])
  t.false(kept.some(({ conversation }) => conversation!.droppedReasoning))
  // Behind the generation prompt, where the template never renders reasoning.
  const never = Template.fromSource(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
  )
  const inline = [user('a'), assistant('<think>\nhm <|im_end|>\n</think>\n\nb')]
  const [written] = rows(never, 'keep', inline)
  t.is(
    shown(written!),
    '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\n⟦hm <|im_end|>\n</think>\n\nb<|im_end|>⟧',
  )
  t.is(count(written!, '<|im_end|>'), 2)
  const ids = never.promptIds({ messages: [user('a')] }, tokenizer)
  t.deepEqual(written!.inputIds.slice(0, ids.length), ids)
  t.true(rows(never, 'template', inline)[0]!.conversation!.droppedReasoning)
  t.regex(shown(rows(never, 'drop', inline)[0]!), /assistant\n⟦b<\|im_end\|>⟧$/)
})

test('a model’s further templates: tool_use for rows with tools, others by name', async (t) => {
  const folder = newFolder(t)
  const list = [
    { name: 'default', template: 'D{{ messages[0].content }}' },
    { name: 'tool_use', template: 'T{{ tools | tojson }}{{ messages[0].content }}' },
    { name: 'rag', template: 'R{{ messages[0].content }}' },
    { name: '../escape', template: 'E' },
  ]
  await writeFile(join(folder, 'tokenizer.json'), tokenizer.files.tokenizerJson)
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({ chat_template: list }))
  const check = async (of: Tokenizer) => {
    const template = (await chooseTemplate(undefined, of)).template
    const messages = [user('a')]
    t.is(template.prompt({ messages }), 'Da')
    t.is(template.prompt({ messages, tools: [1] }), 'T[1]a')
    t.is((await chooseTemplate('rag', of)).template.prompt({ messages }), 'Ra')
    t.is((await chooseTemplate('tool_use', of)).template.prompt({ messages, tools: [1] }), 'T[1]a')
  }
  const loaded = await Tokenizer.load(folder)
  await check(loaded)
  const saved = newFolder(t)
  await loaded.save(saved)
  t.is(await readFile(join(saved, 'additional_chat_templates', 'tool_use.jinja'), 'utf8'), list[1]!.template)
  await check(await Tokenizer.load(saved))
  // Files count before the list of tokenizer_config.json.
  await mkdir(join(folder, 'additional_chat_templates'))
  await writeFile(join(folder, 'additional_chat_templates', 'tool_use.jinja'), 'F{{ messages[0].content }}')
  await writeFile(join(folder, 'chat_template.jinja'), 'G{{ messages[0].content }}')
  const template = (await chooseTemplate('chat', await Tokenizer.load(folder))).template
  t.is(template.prompt({ messages: [user('a')] }), 'Ga')
  t.is(template.prompt({ messages: [user('a')], tools: [1] }), 'Fa')
})
