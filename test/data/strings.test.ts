import { join } from 'node:path'
import test from 'ava'
import {
  chooseTemplate,
  DataLoader,
  type DataSource,
  loadDataset,
  loadPreferences,
  loadPrompts,
  loadUnpaired,
  plainTemplate,
  type Row,
  Template,
  Tokenizer,
} from '../../lib/data/index.js'

const tokenizer = await Tokenizer.load(join('test', 'fixtures', 'masks'))
const template = Template.fromSource(tokenizer.chatTemplate!)
const base = {
  tokenizer,
  template,
  strings: 'turn' as const,
  rendered: false,
  maxLength: 512,
  trainOn: 'assistant' as const,
  onBadRow: 'error' as const,
  seed: 0,
  needsStop: false,
}
type Given = Partial<Omit<typeof base, 'strings'> & { strings: 'turn' | 'raw' }>

const rendered = (ids: Int32Array) => tokenizer.decode(ids, { skipSpecialTokens: false })

/** The whole text of the first row, trained tokens between ⟦ and ⟧. */
async function trained(row: object, given: Given = {}): Promise<string> {
  const { train } = await loadDataset([row] as Row[], { ...base, overflow: 'error', ...given })
  return train.report.example!
}

async function asked(row: object, given: Given = {}): Promise<Int32Array> {
  const { items } = await loadPrompts([row] as DataSource, { ...base, overflow: 'error', ...given })
  return items[0]!.promptIds
}

const CHAT = (prompt: string, response: string) =>
  `<|im_start|>user\n${prompt}<|im_end|>\n<|im_start|>assistant\n⟦${response}<|im_end|>⟧`

test('a string prompt becomes a user turn and its completion the assistant turn', async (t) => {
  const row = { prompt: 'Name a tree.', completion: 'Oak.' }
  t.is(await trained(row), CHAT('Name a tree.', 'Oak.'))
  // The same tokens as the same conversation in messages.
  const messages = [
    { role: 'user', content: row.prompt },
    { role: 'assistant', content: row.completion },
  ]
  const ids = async (each: object) => {
    const { train } = await loadDataset([each] as Row[], { ...base, overflow: 'error' })
    return await train.store.read(0)
  }
  t.deepEqual(await ids(row), await ids({ messages }))
  t.is(await trained(row, { strings: 'raw' }), `Name a tree.⟦Oak.${tokenizer.eosToken}⟧`)
})

test('prompt and completion are trained as they are written, with the spaces at their ends', async (t) => {
  t.is(await trained({ prompt: ' a  ', completion: '  b\n' }), CHAT(' a  ', '  b\n'))
  // Raw, the spaces at the end of the prompt are the first of the completion.
  t.is(await trained({ prompt: ' a  ', completion: 'b' }, { strings: 'raw' }), ` a⟦  b${tokenizer.eosToken}⟧`)
})

test('system, history and tools beside a string prompt are turns of the template', async (t) => {
  const row = { prompt: 'c?', completion: 'd', system: 'Be brief.', history: [['a?', 'b']] }
  const before =
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n'
  t.is(await trained(row), `${before}⟦b<|im_end|>⟧\n${CHAT('c?', 'd')}`)
  t.is(await trained(row, { trainOn: 'lastAssistant' as never }), `${before}b<|im_end|>\n${CHAT('c?', 'd')}`)
  t.is(
    rendered(await asked(row)),
    `${before}b<|im_end|>\n<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n`,
  )
  const withTools = Template.fromSource(
    `{% if tools %}[{{ tools[0].function.name }}]{% endif %}${tokenizer.chatTemplate!}`,
  )
  const tools = [{ type: 'function', function: { name: 'search' } }]
  t.true((await trained({ ...row, tools }, { template: withTools })).startsWith('[search]'))
  t.true(rendered(await asked({ prompt: 'c?', tools }, { template: withTools })).startsWith('[search]'))
  // A raw text has no place for them.
  for (const column of ['system', 'history', 'tools']) {
    const alone = { prompt: 'c?', completion: 'd', [column]: { ...row, tools }[column as 'system'] }
    const message = new RegExp(`^rows:1: ${column} has no place beside a prompt that is taken raw`)
    await t.throwsAsync(trained(alone, { strings: 'raw' }), { code: 'ERR_DATA', message })
    await t.throwsAsync(asked(alone, { strings: 'raw' }), { code: 'ERR_DATA', message })
  }
})

test('in every kind of row, a prompt has the ids in training that generation begins with', async (t) => {
  const text = { prompt: ' Name <|im_end|> a tree. ', system: 'Be brief.' }
  for (const given of [{}, { strings: 'raw' }, { rendered: true }, { template: plainTemplate }] as Given[]) {
    const prompt = given.strings === 'raw' || given.rendered === true ? { prompt: text.prompt } : text
    const ids = await asked(prompt, given)
    const options = { ...base, ...given }
    const responses = [{ ...prompt, chosen: 'Oak.', rejected: 'Car.' }]
    const sets = [
      await loadDataset([{ ...prompt, completion: 'Oak.' }] as Row[], { ...options, overflow: 'error' }),
      await loadPreferences(responses as never, options),
      await loadUnpaired([{ ...prompt, completion: 'Oak.', label: true }] as never, options),
    ]
    for (const { train } of sets) {
      const { inputIds, labels } = await train.store.read(0)
      const start = labels.findIndex((label) => label !== -100)
      t.deepEqual(inputIds.slice(0, start), ids, JSON.stringify(given))
    }
  }
})

test('a template takes string prompts where it was chosen or the model has one; none takes them raw', async (t) => {
  const bare = { chatTemplate: null }
  const strings = async (choice: string | Template | undefined, owner: object) => {
    const { strings, name } = await chooseTemplate(choice, { ...bare, ...owner })
    return `${strings} ${name}`
  }
  t.is(await strings(undefined, bare), 'raw none')
  t.is(await strings(undefined, tokenizer), 'turn chat')
  t.is(await strings(undefined, { adoptedTemplate: plainTemplate }), 'turn plain')
  t.is(await strings('chat', tokenizer), 'turn chat')
  t.is(await strings('plain', bare), 'turn plain')
  t.is(await strings(template, bare), 'turn chat')
  t.is(await strings('none', tokenizer), 'raw none')
  // Conversations are rendered by the model's own template all the same.
  t.is((await chooseTemplate('none', tokenizer)).template.source, tokenizer.chatTemplate!)

  const rows = [{ prompt: 'a', completion: 'b' }]
  const loader = async (given: object) =>
    (await new DataLoader(rows, { tokenizer, batchSize: 1, ...given }).ready()).report
  t.is((await loader({})).example, CHAT('a', 'b'))
  t.is((await loader({ template: 'none' })).example, `a⟦b${tokenizer.eosToken}⟧`)
  t.is((await loader({ template: plainTemplate })).example, `User: a\nAssistant:⟦ b${tokenizer.eosToken}⟧`)
})

test('texts that hold whole dialogs are raw: no turn is put around their common start', async (t) => {
  const row = {
    chosen: '\n\nHuman: Name a tree.\n\nAssistant: Oak.',
    rejected: '\n\nHuman: Name a tree.\n\nAssistant: No.',
  }
  const { train } = await loadPreferences([row], base)
  const example = `\n\nHuman: Name a tree.\n\nAssistant:⟦ Oak.${tokenizer.eosToken}⟧`
  t.like(train.report, { example, stringPrompts: { turn: 0, raw: 1 } })
  t.is(rendered(await asked(row)), '\n\nHuman: Name a tree.\n\nAssistant:')
  await t.throwsAsync(loadPreferences([{ ...row, system: 'Be brief.' }], base), {
    message: /^rows:1: system has no place beside a prompt that is taken raw: write it into the text$/,
  })
})

const TEXT = '<|im_start|>user\nName a tree.<|im_end|>\n<|im_start|>assistant\nOak.<|im_end|>\n'

test('marks of special tokens are text, and counted, unless the text is said to be rendered', async (t) => {
  const prompt = '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n'
  const load = async (row: object, given: Given) =>
    (await loadDataset([row] as Row[], { ...base, overflow: 'error', ...given })).train
  const special = (ids: Int32Array) => [...ids].filter((id) => tokenizer.isSpecial(id)).length

  const plain = await load({ text: TEXT }, {})
  t.is(special((await plain.store.read(0)).inputIds), 1)
  t.is(plain.report.specialMarks, 1)
  for (const [row, given] of [
    [{ text: TEXT, rendered: true }, {}],
    [{ text: TEXT }, { rendered: true }],
  ] as [object, Given][]) {
    const set = await load(row, given)
    const { inputIds } = await set.store.read(0)
    // As transformers encodes the text; no second end after its own.
    t.deepEqual(inputIds, tokenizer.encode(TEXT, { allowSpecial: true }))
    t.is(set.report.specialMarks, 0)
  }
  t.is(
    special((await (await load({ text: TEXT, rendered: false }, { rendered: true })).store.read(0)).inputIds),
    1,
  )

  const row = { prompt, completion: 'b' }
  const taken = await load(row, {})
  t.deepEqual(taken.report.stringPrompts, { turn: 1, raw: 0, rendered: 0 })
  t.is(taken.report.specialMarks, 1)
  const whole = await load({ ...row, rendered: true }, {})
  t.deepEqual(whole.report.stringPrompts, { turn: 0, raw: 0, rendered: 1 })
  t.is(whole.report.example, `${prompt}⟦b${tokenizer.eosToken}⟧`)
  // The end that a completion has of its own is not repeated.
  const ended = await load({ prompt, completion: 'b<|im_end|>\n', rendered: true }, {})
  t.is(ended.report.example, `${prompt}⟦b<|im_end|>\n⟧`)
  await t.throwsAsync(load({ ...row, rendered: 'yes' }, {}), {
    message: /^rows:1: rendered must be true or false/,
  })
})

test('the report of prompts says how texts were taken, with an example', async (t) => {
  const rows = [{ prompt: 'a' }, { prompt: '<|im_end|>' }, { messages: [{ role: 'user', content: 'b' }] }]
  const { report, items } = await loadPrompts(rows, { ...base, overflow: 'error' })
  t.like(report, { stringPrompts: { turn: 2, raw: 0, rendered: 0 }, specialMarks: 1 })
  t.is(report.example, '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n')
  t.deepEqual(items[0]!.messages, [{ role: 'user', content: 'a' }])
  t.is(items[0]!.prompt, 'a')
})
