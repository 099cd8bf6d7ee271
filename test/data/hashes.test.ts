import test from 'ava'
import {
  type DataSource,
  loadDataset,
  loadPreferences,
  loadPrompts,
  loadUnpaired,
} from '../../lib/data/index.js'
import { assistant, options, user } from '../helpers/response-rows.js'

// A run folder holds the hash of its data, and a resume with another one is refused: these stay as they are.
const sft = { ...options, trainOn: 'assistant', overflow: 'truncate', needsStop: true } as const
const rows: DataSource = [
  { instruction: 'Sky?', input: 'by day', output: 'blue', weight: 0.5 },
  { prompt: 'P: ', completion: 'x' },
  { messages: [user('a'), assistant('b')] },
]
const mix = [
  { data: rows, weight: 1 },
  { data: [{ text: 'plain' }], weight: 0.5 },
]
const pairs = [
  { prompt: 'P', chosen: 'a', rejected: 'b', margin: 1.5 },
  { prompt: [user('Q')], responses: ['1', '2', '3'] },
]
const labels = [
  { prompt: 'P', completion: 'a', label: true },
  { prompt: [user('Q')], completion: 'b', label: false },
]
const prompts = [{ prompt: 'P', answer: 7, none: null }, { messages: [user('Q'), assistant('b')] }]

const hashes: Record<string, [() => Promise<(string | undefined)[]>, string[]]> = {
  'rows of several sources': [
    async () => [(await loadDataset(mix, sft)).train.hash],
    ['637002e68e1b7f29835f834d5c01f99a2664294e96c580a84d48c14c80fdf97e'],
  ],
  'rows and the fraction taken out of them': [
    async () => {
      const { train, validation } = await loadDataset(rows, { ...sft, validation: { fraction: 0.4 } })
      return [train.hash, validation?.hash]
    },
    [
      '998e7ddb834a02f71e384d052182248f6c5ff81f381c890d74a0a478ede37720',
      '304472e6229c099e8b10044dadd6038258d94271b53e5775cacab537fcdfe9c0',
    ],
  ],
  'pairs and rankings': [
    async () => [(await loadPreferences(pairs, options)).train.hash],
    ['fe6e776a97e83300add81f0f3c9b16c4d0607470210c4daae322049f3ac8dcbb'],
  ],
  'unpaired responses': [
    async () => [(await loadUnpaired(labels, options)).train.hash],
    ['0653bc843b7c011a9feec8c2b2ff714c12c4e305c28128e690613b14a5a39efc'],
  ],
  'prompts, whose null columns a reward may look at': [
    async () => [(await loadPrompts(prompts, { ...options, overflow: 'error' })).hash],
    ['eab8551cb0d2f70cfa8a0ad74d8648c2d538f217ca828ffb8c85ceecf545992c'],
  ],
}

for (const [name, [hashOf, expected]] of Object.entries(hashes)) {
  test(`the hash of ${name} is the one that run folders hold`, async (t) => {
    t.deepEqual(await hashOf(), expected)
  })
}
