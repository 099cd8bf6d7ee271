import test from 'ava'
import { readRow } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }
const system = { role: 'system', content: 'S' }

function messagesOf(...messages: object[]) {
  const example = readRow({ messages }, origin)
  return example.kind === 'messages' ? example.messages : []
}

for (const [asked, said] of [
  ['input', 'output'],
  ['user', 'assistant'],
  ['human', 'assistant'],
] as const) {
  const pair = { [asked]: 'a', [said]: 'b' }
  test(`the pair ${asked} and ${said} has its system turn before it`, (t) => {
    t.deepEqual(messagesOf({ system: 'S', ...pair }), [system, user('a'), assistant('b')])
    t.deepEqual(messagesOf({ system: '', ...pair }), [user('a'), assistant('b')])
  })

  test(`masks beside ${asked} and ${said} are those of the response`, (t) => {
    const masks = ['train', 'training', 'weight', 'loss', 'loss_scale', 'loss_weight', 'loss_mask']
    for (const name of [...masks, 'output_with_loss'])
      for (const value of [0, false])
        t.deepEqual(messagesOf({ ...pair, [name]: value }), [user('a'), { ...assistant('b'), train: false }])
    t.like(messagesOf({ ...pair, masked: true })[1], { train: false })
    t.throws(() => messagesOf({ ...pair, train: true, output_with_loss: false }), { message: /disagree/ })
    t.throws(() => messagesOf({ ...pair, mask: 1 }), { message: /messages\[0\]\.mask may mean/ })
  })

  test(`reasoning and calls beside ${asked} and ${said} are those of the response`, (t) => {
    const more = { reasoning_content: 'Hm.', tool_calls: [{ name: 'f', arguments: {} }] }
    const call = { type: 'function', function: { name: 'f', arguments: {} } }
    t.like(messagesOf({ ...pair, ...more })[1], { reasoning_content: 'Hm.', tool_calls: [call] })
    t.like(messagesOf({ ...pair, ...more, [said]: '' })[1], { content: '', tool_calls: [call] })
  })

  test(`what has no place beside ${asked} and ${said} is an error that names it`, (t) => {
    for (const [name, value] of [
      ['context', 'C'],
      ['images', ['a.png']],
      ['need_eos_token', false],
    ] as const)
      t.throws(() => messagesOf(user('x'), { ...pair, [name]: value }), {
        code: 'ERR_DATA',
        message: `rows.jsonl:7: messages[1].${name} has no place beside ${asked} and ${said}: leave it out`,
      })
    t.notThrows(() => messagesOf({ ...pair, id: 'x', turn_id: '3', turn: 1, need_eos_token: true, note: '' }))
  })
}
