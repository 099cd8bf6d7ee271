import test from 'ava'
import { describeData, describePrompts } from '../../lib/cli/data-report.js'
import { defaultDatasetOptions, loadDataset } from '../../lib/data/dataset.js'
import { loadPrompts } from '../../lib/data/prompts.js'
import type { AnyRow } from '../../lib/data/sources.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const options = {
  ...defaultDatasetOptions(byteTokenizer()),
  maxLength: 1000,
  trainOn: 'all',
  overflow: 'error',
  needsStop: false,
} as const

const printed = `[{'role': 'user', 'content': "it's"}, {'role': 'assistant', 'content': 'b'}]`

async function reportOf(rows: object[]) {
  const { train } = await loadDataset(rows as AnyRow[], options)
  await train.store.close()
  return train.report
}
const notesOf = async (rows: object[]) => (await reportOf(rows)).notes

test('messages as Python prints them are text, with a note on the first of them', async (t) => {
  const says = (place: string) =>
    `${place} is likely a list of messages as Python prints it, and was read as text: write such lists as JSON (json.dumps)`
  const report = await reportOf([{ text: 'a' }, { text: printed }, { text: printed }])
  t.deepEqual(report.notes, [says('rows:2: text')])
  t.true(describeData(report).includes(`Data: ${says('rows:2: text')}`))
  const other = ` [ {'from': 'human', 'value': 'a'}]`
  t.deepEqual(await notesOf([{ question: other, answer: 'b' }]), [says('rows:1: question')])
  t.deepEqual(await notesOf([{ instruction: 'a', output: printed }]), [says('rows:1: output')])
  for (const text of [`a ${printed}`, "[{'name': 'a'}]", "['role']", '[]', JSON.stringify([{ a: 1 }])])
    t.deepEqual(await notesOf([{ text }]), [], text)
})

test('prompts have the note too', async (t) => {
  const { report } = await loadPrompts([{ prompt: printed }], { ...options, overflow: 'error' })
  t.is(report.notes.length, 1)
  t.true(describePrompts(report).includes(`Data: ${report.notes[0]}`))
})
