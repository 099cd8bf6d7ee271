import test from 'ava'
import type { Reasoning } from '../../lib/data/encode/reasoning.js'
import { type DataSource, loadPreferences, loadUnpaired, Template } from '../../lib/data/index.js'
import { assistant, options, textOf, user } from '../helpers/response-rows.js'

/** Opens a think block behind the prompt and renders no reasoning, as R1-Distill's. */
const forgetting = Template.fromSource(
  "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]<think>\n{% endif %}",
)
const rendering = Template.fromSource(
  '{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}',
)

const turn = (content: string, reasoning: string) => ({ ...assistant(content), reasoning_content: reasoning })
const pair = {
  prompt: [user('q'), turn('a', 'old'), user('r')],
  chosen: [turn('b', 'good')],
  rejected: [turn('c', 'bad')],
}

async function pairs(row: object, reasoning: Reasoning | undefined, template = rendering) {
  const { train } = await loadPreferences([row] as DataSource, { ...options, template, reasoning })
  const rows = [await train.store.read(0), await train.store.read(1)]
  const texts = rows.map(({ inputIds, labels }) => {
    const start = labels.findIndex((label) => label !== -100)
    return `${textOf(inputIds.subarray(0, start))}«${textOf(inputIds.subarray(start))}»`
  })
  return { texts, report: train.report }
}

test('reasoning of chosen and rejected responses is rendered by the template, or dropped with that of the prompt', async (t) => {
  const asked = '[user]q<eos>[assistant]<think>old</think>a<eos>[user]r<eos>[assistant]'
  const { texts } = await pairs(pair, undefined)
  t.deepEqual(texts, [`${asked}«<think>good</think>b<eos>»`, `${asked}«<think>bad</think>c<eos>»`])
  t.deepEqual((await pairs(pair, 'keep')).texts, texts)
  const short = '[user]q<eos>[assistant]a<eos>[user]r<eos>[assistant]'
  t.deepEqual((await pairs(pair, 'drop')).texts, [`${short}«b<eos>»`, `${short}«c<eos>»`])
})

test('reasoning that the template leaves out is counted, or kept behind the prompt of generation', async (t) => {
  const asked = '[user]q<eos>[assistant]a<eos>[user]r<eos>[assistant]'
  const left = await pairs(pair, 'template', forgetting)
  t.deepEqual(left.texts, [`${asked}«b<eos>»`, `${asked}«c<eos>»`])
  t.is(left.report.droppedReasoning, 2)
  const kept = await pairs(pair, 'keep', forgetting)
  t.deepEqual(kept.texts, [
    `${asked}<think>\n«good\n</think>\n\nb<eos>»`,
    `${asked}<think>\n«bad\n</think>\n\nc<eos>»`,
  ])
  t.is(kept.report.droppedReasoning, 0)
  const row = { prompt: pair.prompt, completion: pair.chosen, label: true }
  const { train } = await loadUnpaired([row] as DataSource, {
    ...options,
    template: forgetting,
    reasoning: 'keep',
  })
  t.is(textOf((await train.store.read(0)).inputIds), kept.texts[0]!.replace(/[«»]/g, ''))
})

test('pairs that differ in dropped reasoning alone are the same, and counted', async (t) => {
  const row = { prompt: 'q', chosen: [turn('b', 'good')], rejected: [turn('b', 'bad')] }
  await t.throwsAsync(pairs(row, 'drop'), { code: 'ERR_DATA', message: /1 pairs identical/ })
  t.is((await pairs(row, 'keep')).report.pairs, 1)
})

test('a response of several turns cannot keep the reasoning of each', async (t) => {
  const chosen = [turn('call', 'x'), { role: 'tool', content: 'R' }, turn('b', 'y')]
  await t.throwsAsync(pairs({ ...pair, chosen }, 'keep'), {
    code: 'ERR_DATA',
    message:
      /^rows:1: a response has 2 turns of the assistant, of which reasoning 'keep' would make a row each/,
  })
  t.is((await pairs({ ...pair, chosen }, 'template')).report.pairs, 1)
})
