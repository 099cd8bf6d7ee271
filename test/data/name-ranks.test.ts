import test from 'ava'
import { readPreference, readPrompt, readRow, readUnpaired } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }
const whole = [user('a'), assistant('b')]
const trained = { kind: 'completion', prompt: 'x', completion: 'y', weight: 1 }
const text = { kind: 'text', text: 'T', weight: 1 }

/** Rows that are read without a column, under whose name other rows have a prompt, a completion or messages. */
const rows: Record<string, [row: object, expected: object]> = {
  'a response beside input and output': [{ input: 'x', output: 'y', response: 'z' }, trained],
  'a solution beside input and output': [{ input: 'x', output: 'y', solution: 'z' }, trained],
  'a problem beside input and output': [{ input: 'x', output: 'y', problem: 'z' }, trained],
  'an empty query beside input and output': [{ input: 'x', output: 'y', query: '' }, trained],
  'an empty prompt beside input and output': [{ input: 'x', output: 'y', prompt: '', text: 'T' }, trained],
  'an empty prompt beside an input': [{ prompt: '', input: 'x', completion: 'y' }, trained],
  'an output beside an answer': [{ question: 'x', answer: 'y', output: 'z' }, trained],
  'a target beside an answer': [{ question: 'x', answer: 'y', target: 'z' }, trained],
  'an empty instruction beside a prompt': [{ instruction: '', prompt: 'x', completion: 'y' }, trained],
  'a problem and a solution beside a text': [{ text: 'T', problem: 'p', solution: 's' }, text],
  'an input and a target beside a text': [{ text: 'T', input: 'p', target: 's' }, text],
  'an input and an answer beside a text': [{ text: 'T', input: 'p', answer: 's' }, text],
  'a problem beside a text': [{ text: 'T', problem: 'p' }, text],
  'a query that is empty beside a text': [{ text: 'T', query: '', solution: 's' }, text],
  'a prompt that is empty beside a text': [{ text: 'T', prompt: '' }, text],
  'a system message beside a text': [{ text: 'T', systemMessage: 'S', system_instruction: 'S' }, text],
  'items that are messages': [{ prompt: 'x', completion: 'y', items: whole }, trained],
  'items that are journeys': [{ prompt: 'x', completion: 'y', items: [{ from: 'A', to: 'B' }] }, trained],
  'contents beside input and output': [{ input: 'x', output: 'y', contents: whole }, trained],
  'items beside a text': [{ text: 'T', items: whole }, text],
  'a weight that is no number': [{ prompt: 'x', completion: 'y', sample_weight: 'high' }, trained],
  'a rejected response': [{ prompt: 'x', completion: 'y', rejected_response: 'z' }, trained],
  'a dialog that is an object': [{ prompt: 'x', completion: 'y', dialog: { id: 3 } }, trained],
  'a dialogue that is a text': [{ prompt: 'x', completion: 'y', dialogue: '[laughs] hello' }, trained],
}
for (const [name, [row, expected]] of Object.entries(rows)) {
  test(`a row is read as it is without ${name}`, (t) => {
    t.deepEqual(readRow(row, origin), expected as never)
  })
}

test('names that are those of a prompt in other rows count where nothing else is what is read', (t) => {
  t.like(readRow({ problem: 'x', solution: 'y' }, origin), trained)
  t.like(readRow({ inputs: 'x', targets: 'y', text: '' }, origin), trained)
  t.like(readRow({ prompt: '', completion: 'y' }, origin), { ...trained, prompt: '' })
  t.like(readRow({ prompt: '', completion: 'y', text: 'T' }, origin), { ...trained, prompt: '' })
  t.like(readPrompt({ problem: 'x', answer: 4 }, origin), { text: 'x' })
  t.deepEqual(readPrompt({ text: 'T', problem: 'x', answer: 4 }, origin), { text: 'x' })
  t.deepEqual(readPrompt({ text: 'T', input: 'x', target: '4' }, origin), { text: 'x' })
  t.throws(() => readPrompt({ text: 'T', target: '4' }, origin), { message: /text is not a prompt/ })
  t.like(readRow({ items: whole }, origin), { messages: whole } as never)
  t.throws(() => readRow({ items: [{ from: 'A', to: 'B' }] }, origin), { message: /unknown kind of row/ })
  t.throws(() => readRow({ dialog: { id: 3 } }, origin), { message: /dialog must be a list of at least one/ })
})

test('pairs are read as they are without columns of other rows', (t) => {
  const pair = { prompt: 'x', chosen: 'y', rejected: 'z' }
  const read = (row: object) => readPreference(row, origin)
  for (const beside of [{ items: whole }, { text: 'T' }, { input: '' }, { sample_weight: 'high' }])
    t.deepEqual(read({ ...pair, ...beside }), read(pair), JSON.stringify(beside))
  const { prompt: input, ...responses } = pair
  t.deepEqual(read({ input, ...responses, text: 'T' }), read(pair))
  // Dialogs have their own prompt.
  const dialogs = { chosen: '\n\nHuman: a\n\nAssistant: b', rejected: '\n\nHuman: a\n\nAssistant: c' }
  for (const beside of [{ input: 'harmless' }, { problem: 'helpful' }])
    t.deepEqual(read({ ...dialogs, ...beside }), read(dialogs))
})

test('a rejected response beside one with a label is not read', (t) => {
  const row = { prompt: 'x', completion: 'y', label: true }
  t.deepEqual(readUnpaired({ ...row, rejected_response: 'z' }, origin), readUnpaired(row, origin))
})

test('a label of a bad response is an error where it would be trained, but not the class of a text', (t) => {
  const forms = [{ prompt: 'x', completion: 'y' }, { instruction: 'x', output: 'y' }, { messages: whole }]
  for (const row of forms) {
    for (const name of ['label', 'kto_tag'])
      for (const value of [false, 0, new Number(0)])
        t.throws(() => readRow({ ...row, [name]: value }, origin), {
          code: 'ERR_DATA',
          message: new RegExp(`^rows\\.jsonl:7: ${name} (false|0) marks an undesirable response`),
        })
    for (const label of [true, 1, 2, 'negative', null])
      t.notThrows(() => readRow({ ...row, label }, origin), String(label))
    t.notThrows(() => readRow({ ...row, text: 'T', label: 0 }, origin))
    t.throws(() => readRow({ ...row, text: 'T', label: false }, origin), { message: /undesirable/ })
  }
  for (const label of [0, 1, false]) t.deepEqual(readRow({ text: 'T', label }, origin), text as never)
  t.throws(() => readRow({ text: 'T', kto_tag: 0 }, origin), { message: /kto_tag 0 marks/ })
})
