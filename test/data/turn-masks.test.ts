import test from 'ava'
import { readRow } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }

/** The assistant turn of a row with these fields in it. */
function turn(fields: object, content: unknown = 'b') {
  const row = { messages: [user('a'), { role: 'assistant', content, ...fields }] }
  const example = readRow(row, origin)
  return example.kind === 'messages' ? example.messages[1]! : t('messages expected')
}
const t = (message: string): never => {
  throw new Error(message)
}

const NAMES = [
  'train',
  'training',
  'weight',
  'loss',
  'loss_scale',
  'loss_weight',
  'loss_mask',
  'output_with_loss',
]
for (const name of NAMES) {
  test(`the mask ${name} of a turn is read and not given to the template`, (t) => {
    for (const value of [0, false, new Number(0)])
      t.deepEqual(turn({ [name]: value }), { ...assistant('b'), train: false })
    for (const value of [1, true, new Number(1)])
      t.deepEqual(turn({ [name]: value }), { ...assistant('b'), train: true })
    t.deepEqual(turn({ [name]: null }), assistant('b'))
    for (const [value, got] of [
      [2, '2'],
      [0.5, '0.5'],
      ['0', '"0"'],
      [{}, 'an object'],
    ] as const)
      t.throws(() => turn({ [name]: value }), {
        code: 'ERR_DATA',
        message: `rows.jsonl:7: messages[1].${name} must be true, false, 0 or 1, got ${got}`,
      })
  })
}

test('masked says that a turn is not trained', (t) => {
  t.is(turn({ masked: true }).train, false)
  t.is(turn({ masked: false }).train, true)
})

test('masks that agree are one, masks that disagree an error', (t) => {
  t.is(turn({ weight: 0, train: false, masked: true }).train, false)
  t.throws(() => turn({ weight: 0, loss: true }), {
    message: /^rows\.jsonl:7: messages\[1\]\.loss and weight disagree on whether the turn is trained/,
  })
})

test('masks of another kind are errors that name them', (t) => {
  for (const name of ['mask', 'train_detail', 'training_detail'])
    t.throws(() => turn({ [name]: [{ begin_offset: 0, end_offset: 1, train: false }] }), {
      code: 'ERR_DATA',
      message: new RegExp(`^rows\\.jsonl:7: messages\\[1\\]\\.${name} .*: write train: true or train: false`),
    })
})

test('parts of a content may all have the mask of their turn', (t) => {
  const parts = (...flags: (boolean | undefined)[]) =>
    flags.map((train) => ({ type: 'text', text: 'b', ...(train !== undefined && { train }) }))
  t.like(turn({}, parts(false, false)), { content: 'bb', train: false })
  t.is(turn({}, parts(undefined)).train, undefined)
  for (const flags of [
    [true, false],
    [false, undefined],
  ])
    t.throws(() => turn({}, parts(...flags)), {
      message: /messages\[1\]\.content has parts that are trained and parts that are not/,
    })
})

test('masks of other turns say that they are context, and none may ask for training that there is not', (t) => {
  const row = (fields: object) => ({ messages: [{ ...user('a'), ...fields }, assistant('b')] })
  for (const fields of [{ weight: 0 }, { weight: 1 }, { loss: true }, { train: false }, { loss_weight: 0 }])
    t.notThrows(() => readRow(row(fields), origin), JSON.stringify(fields))
  for (const name of ['train', 'training'])
    t.throws(() => readRow(row({ [name]: true }), origin), {
      message: new RegExp(
        `messages\\[0\\]\\.${name} is true, but only turns of the assistant can be trained`,
      ),
    })
})

test('masks in the form of ShareGPT are read too', (t) => {
  const conversations = [
    { from: 'human', value: 'a', loss: null },
    { from: 'gpt', value: 'b', loss: 0 },
  ]
  const example = readRow({ conversations }, origin)
  t.deepEqual(example.kind === 'messages' && example.messages, [
    user('a'),
    { ...assistant('b'), train: false },
  ])
})
