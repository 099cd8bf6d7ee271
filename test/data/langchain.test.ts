import test from 'ava'
import { readRow } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }

/** The three forms of a message of LangChain. */
const forms: Record<string, (fields: object) => object> = {
  'with its type': (fields) => ({ type: 'ai', ...fields }),
  stored: (data) => ({ type: 'ai', data }),
  'as JSON': (kwargs) => ({ lc: 1, type: 'constructor', id: ['langchain', 'AIMessage'], kwargs }),
  'of a stream': (fields) => ({ type: 'AIMessageChunk', ...fields }),
}

for (const [form, messageOf] of Object.entries(forms)) {
  const turn = (fields: object) => {
    const example = readRow({ messages: [user('a'), messageOf({ content: 'b', ...fields })] }, origin)
    return example.kind === 'messages' ? example.messages[1] : null
  }

  test(`a message of LangChain ${form} keeps the mask of its turn`, (t) => {
    for (const name of ['train', 'training', 'weight', 'loss', 'loss_scale', 'loss_weight', 'loss_mask'])
      t.deepEqual(turn({ [name]: 0 }), { ...assistant('b'), train: false }, name)
    t.deepEqual(turn({ masked: true }), { ...assistant('b'), train: false })
    t.throws(() => turn({ mask: 1 }), { message: /messages\[1\]\.mask may mean/ })
  })

  test(`a message of LangChain ${form} keeps its reasoning and its refusal`, (t) => {
    for (const name of ['reasoning_content', 'thinking', 'reasoning'])
      t.deepEqual(turn({ [name]: 'Hm.' }), { ...assistant('b'), [name]: 'Hm.' })
    t.deepEqual(turn({ additional_kwargs: { reasoning_content: 'Hm.' } }), {
      ...assistant('b'),
      reasoning_content: 'Hm.',
    })
    const item = { id: 'rs_1', type: 'reasoning', summary: [{ type: 'summary_text', text: 'Hm.' }] }
    t.deepEqual(turn({ additional_kwargs: { reasoning: item } }), {
      ...assistant('b'),
      reasoning_content: 'Hm.',
    })
    t.deepEqual(turn({ content: '', additional_kwargs: { refusal: 'No.' } }), assistant('No.'))
  })
}

test('a mask beside the data of a stored message counts', (t) => {
  t.like(readRow({ messages: [user('a'), { type: 'ai', train: false, data: { content: 'b' } }] }, origin), {
    messages: [user('a'), { ...assistant('b'), train: false }],
  } as never)
})
