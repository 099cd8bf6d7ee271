import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { inspectData } from '../../lib/cli/inspect-rows.js'
import { Tokenizer } from '../../lib/data/index.js'
import { distill } from '../../lib/distill/distill.js'
import { generate } from '../../lib/generate/generate.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { dpo } from '../../lib/train/dpo.js'
import { grpo, rloo } from '../../lib/train/grpo.js'
import { ppo } from '../../lib/train/ppo.js'
import { reward } from '../../lib/train/reward.js'
import { sft } from '../../lib/train/sft.js'
import { posttrain } from '../helpers/command-line.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const CHAT =
  "{% if tone %}({{ tone }}){% endif %}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
const chatModel = () =>
  CausalLM.create(tinyConfig, {
    tokenizer: Tokenizer.fromFiles({ ...byteTokenizer().files, chatTemplate: CHAT }),
  })

const own = { chat_template_kwargs: { tone: 'own' } }
const rows = (answer: object) => [
  { prompt: 'q', ...answer },
  { prompt: 'r', ...answer, ...own },
]
const run = {
  templateArguments: { tone: 'run' },
  maxSteps: 1,
  batchSize: 2,
  shuffle: false,
  epochs: undefined,
}
const rollouts = { templateArguments: { tone: 'run' }, batchSize: 2, iterations: 1, maxNewTokens: 2 }
const pair = rows({ chosen: 'a', rejected: 'b' })

/** The report's first row, with the arguments of the run; the validation's, with those of the row. */
async function examples(training: AsyncIterable<{ type: string }>): Promise<unknown[]> {
  for await (const event of training) {
    if (event.type !== 'start') continue
    const { report, validationReport } = event as never as Record<string, { example: string } | undefined>
    return [report!.example, validationReport?.example]
  }
  return []
}

test('arguments of a run and of a row reach string prompts in the recipes on rows with responses', async (t) => {
  await using model = await chatModel()
  const asked = (tone: string, name: string) => `(${tone})[user]${name}<eos>[assistant]⟦a<eos>⟧`
  const expected = [asked('run', 'q'), asked('own', 'r')]
  const [first, second] = rows({ completion: 'a' }) as [object, object]
  const split = { model, data: [first], validation: [second] }
  t.deepEqual(await examples(sft({ ...run, ...split } as never)), expected)
  const pairs = { model, data: pair.slice(0, 1), validation: pair.slice(1) }
  t.deepEqual(await examples(reward({ ...run, ...pairs })), expected)
  t.deepEqual(await examples(dpo({ ...run, ...pairs })), expected)
  const labeled = [{ ...first, label: true }]
  const kto = { model, data: labeled, validation: [{ ...second, label: false }], loss: 'kto' } as const
  t.deepEqual(await examples(dpo({ ...run, ...kto } as never)), expected)
})

test('arguments of a run and of a row reach string prompts in the recipes with rollouts', async (t) => {
  for (const [name, start] of Object.entries({ ppo, grpo, rloo })) {
    await using model = await chatModel()
    const asked = new Set<string>()
    const training = start({
      ...rollouts,
      model,
      data: rows({ answer: '7' }),
      reward: (samples: readonly { promptIds: Int32Array; row: { answer?: string } }[]) => {
        for (const { promptIds, row } of samples) {
          asked.add(model.tokenizer.decode(promptIds, { skipSpecialTokens: false }))
          t.is(row.answer, '7', name)
        }
        return samples.map((_, i) => i)
      },
    } as never)
    await training.finish()
    t.deepEqual([...asked].toSorted(), ['(own)[user]r<eos>[assistant]', '(run)[user]q<eos>[assistant]'], name)
  }
})

test('arguments reach string prompts in generate, inspect and distill', async (t) => {
  await using model = await chatModel()
  const folder = newFolder(t)
  const path = join(folder, 'rows.jsonl')
  const lines = rows({})
  writeFileSync(path, lines.map((row) => JSON.stringify(row)).join('\n'))
  const saved = join(folder, 'model')
  await model.save(saved)
  const texts = ['(run)[user]q<eos>[assistant]', '(own)[user]r<eos>[assistant]']
  const greedy = { maxNewTokens: 12 }
  const expected = await generate(model, texts, greedy)
  const templateArguments = { tone: 'run' }
  const asked = await generate(model, ['q'], { ...greedy, template: 'chat', templateArguments })
  t.deepEqual(asked[0]!.tokenIds, expected[0]!.tokenIds)
  const talk = await generate(model, [[{ role: 'user', content: 'q' }]], { ...greedy, templateArguments })
  t.deepEqual(talk[0]!.tokenIds, expected[0]!.tokenIds)
  const shared = ['--template-arguments', '{"tone": "run"}', '--json', '--model', saved]
  const said = await posttrain(['generate', '--prompts', path, '--max-new-tokens', '12', ...shared])
  t.is(said.code, 0, said.stderr)
  const ids = said.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).tokenIds as number[])
  t.deepEqual(
    ids,
    expected.map(({ tokenIds }) => [...tokenIds]),
  )
  const reading = {
    rows: 3,
    maxLength: 64,
    trainOn: 'assistant',
    overflow: 'error',
    onBadRow: 'error',
  } as const
  const { rows: seen } = await inspectData(path, { ...reading, model: saved, templateArguments })
  t.deepEqual(
    seen.map(({ tokens }) =>
      tokens
        .filter(({ state }) => state === 'masked')
        .map(({ text }) => text)
        .join(''),
    ),
    texts,
  )
})

test('arguments of a run and of a row reach the template of a teacher in this process', async (t) => {
  const strict = `{% if tone != 'own' %}{{ raise_exception('the tone is ' ~ tone) }}{% endif %}${CHAT}`
  await using model = await CausalLM.create(tinyConfig, {
    tokenizer: Tokenizer.fromFiles({ ...byteTokenizer().files, chatTemplate: strict }),
  })
  const folder = newFolder(t)
  const reasons = async (data: object[], given: object) => {
    const output = join(folder, `${Math.random()}.jsonl`)
    const found: string[] = []
    for await (const event of distill({
      model,
      data,
      output,
      temperature: 0,
      maxNewTokens: 2,
      ...given,
    } as never))
      if (event.type === 'failure') found.push(event.reason)
    return found
  }
  t.regex((await reasons([{ prompt: 'q' }], { templateArguments: { tone: 'run' } }))[0]!, /the tone is run/)
  // The random answer is cut off, but the template did not refuse the question.
  for (const [row, given] of [
    [{ prompt: 'q' }, { templateArguments: { tone: 'own' } }],
    [{ prompt: 'q', ...own }, { templateArguments: { tone: 'run' } }],
    [{ prompt: 'q', ...own }, {}],
  ] as const)
    for (const reason of await reasons([row], given)) t.notRegex(reason, /tone/)
})
