import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { DataReport, PromptReport } from '../../lib/data/index.js'
import { Tokenizer } from '../../lib/data/index.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { grpo } from '../../lib/train/grpo.js'
import type { SftOptions } from '../../lib/train/options/options.generated.js'
import { sft } from '../../lib/train/sft.js'
import { lossesOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyConfig, tinyModel } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const CHAT =
  "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
const data = instructionRows(12).map(({ instruction, output }) => ({
  prompt: instruction,
  completion: output,
}))
const base = { data, maxLength: 64, learningRate: 1e-3, batchSize: 4 } satisfies Partial<SftOptions>

const chatModel = () =>
  CausalLM.create(tinyConfig, {
    tokenizer: Tokenizer.fromFiles({ ...byteTokenizer().files, chatTemplate: CHAT }),
  })

async function run(model: CausalLM, given: Partial<SftOptions>, stopAt = Number.POSITIVE_INFINITY) {
  await using own = model
  const training = sft({ ...base, ...given, model: own })
  const events = []
  for await (const event of training) {
    events.push(event)
    if (event.type === 'step' && event.step === stopAt) training.stop()
  }
  const start = events[0] as Extract<(typeof events)[0], { type: 'start' }>
  return { losses: lossesOf(events), start, events }
}

const configOf = (output: string) => JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'))

test('the data report and config.json say how string prompts were taken', async (t) => {
  const output = cleanFolder(t)
  const turns = await run(await chatModel(), { output, maxSteps: 1 })
  t.deepEqual(turns.start.report.stringPrompts, { turn: 12, raw: 0, rendered: 0 })
  t.is(turns.start.report.example, '[user]0+0=?<eos>[assistant]⟦0<eos>⟧')
  t.like(configOf(output), { stringPrompts: 'turn', options: { template: 'chat' } })
  const other = cleanFolder(t)
  const raw = await run(await chatModel(), { output: other, maxSteps: 1, template: 'none' })
  t.is(raw.start.report.example, '0+0=?⟦0<eos>⟧')
  t.like(configOf(other), { stringPrompts: 'raw', options: { template: 'none' } })
  await t.throwsAsync(run(await chatModel(), { output, resume: true, template: 'none', maxSteps: 2 }), {
    message: /option template was "chat" and is "none" now/,
  })
})

test('a run whose config does not say how string prompts were taken resumes with raw ones', async (t) => {
  const whole = await run(await chatModel(), { template: 'none', epochs: 2 })
  for (const template of [undefined, 'chat', 'none']) {
    const output = cleanFolder(t)
    await run(await chatModel(), { template: 'none', epochs: 2, output }, 2)
    const { stringPrompts: _, ...config } = configOf(output)
    config.options.template = 'chat'
    writeFileSync(join(output, 'config.json'), JSON.stringify(config))
    const again = { epochs: 2, output, resume: true, ...(template && { template }) }
    const first = await run(await chatModel(), again, 4)
    const second = await run(await chatModel(), again)
    t.deepEqual([...first.losses, ...second.losses], whole.losses.slice(2))
    t.is(configOf(output).stringPrompts, undefined)
    t.is(second.start.report.stringPrompts.raw, 12)
  }
})

test('a template that rendered no row is not saved with a model that has none', async (t) => {
  const rows = instructionRows(12)
  for (const [given, saved] of [
    [{}, false],
    [{ template: 'plain' }, true],
    [{ data: rows }, true],
    [{ data: rows, template: 'none' }, true],
    [{ rendered: true, template: 'plain' }, false],
  ] as [Partial<SftOptions>, boolean][]) {
    const output = cleanFolder(t)
    await run(await tinyModel(), { maxSteps: 1, output, ...given })
    t.is(existsSync(join(output, 'model', 'chat_template.jinja')), saved, JSON.stringify(Object.keys(given)))
  }
})

test('marks of special tokens in texts are a warning, once, unless the texts are rendered', async (t) => {
  const marked = [{ text: '[user]a<eos>' }, { text: 'b' }]
  const output = cleanFolder(t)
  const warnings = async (given: Partial<SftOptions>) => {
    const { events } = await run(await tinyModel(), { data: marked, batchSize: 1, ...given })
    return events.filter((event) => event.type === 'warning' && event.code === 'specialMarks')
  }
  const [warning, ...others] = await warnings({ maxSteps: 1, output })
  t.regex((warning as { message: string }).message, /^1 row has marks of special tokens .* rendered: true/)
  t.is(others.length, 0)
  t.deepEqual(await warnings({ maxSteps: 2, output, resume: true }), [])
  t.deepEqual(await warnings({ maxSteps: 1, rendered: true }), [])
})

test('samples are prompted as the rows are', async (t) => {
  const samples = { prompts: ['1+1=?'], everySteps: 1, maxNewTokens: 4 }
  const asked = async (given: Partial<SftOptions>) => {
    const { events } = await run(await chatModel(), { samples, maxSteps: 1, ...given })
    return events.find(({ type }) => type === 'sample') as { prompt: string; text: string }
  }
  const turn = await asked({})
  const raw = await asked({ template: 'none' })
  const messages = await asked({ data: instructionRows(12) })
  t.is(messages.text, turn.text)
  t.is(turn.prompt, '1+1=?')
  t.not(raw.text, turn.text)
})

test('prompts of a policy are taken as in supervised training', async (t) => {
  const asked: string[] = []
  await using model = await chatModel()
  const options = { model, data, batchSize: 2, groupSize: 2, maxNewTokens: 4, iterations: 1 }
  for (const given of [{}, { template: 'none' }, { rendered: true }]) {
    const training = grpo({
      ...options,
      ...given,
      reward: (samples) => {
        asked.push(model.tokenizer.decode(samples[0]!.promptIds, { skipSpecialTokens: false }))
        return samples.map((_, i) => i)
      },
    })
    for await (const event of training)
      if (event.type === 'start') t.is((event.report as PromptReport).example, reports[asked.length]!)
  }
  t.regex(asked[0]!, /^\[user\]\d+\+\d=\?<eos>\[assistant\]$/)
  t.regex(asked[1]!, /^\d+\+\d=\?$/)
  t.regex(asked[2]!, /^\d+\+\d=\?$/)
})
const reports = ['[user]0+0=?<eos>[assistant]', '0+0=?', '0+0=?']

test('with a fraction held out, each report is about its own rows', async (t) => {
  const rows = [...data, ...data.slice(0, 3), { prompt: 'x', completion: 'y'.repeat(200) }]
  const { start, events } = await run(await tinyModel(), {
    data: rows,
    overflow: 'drop',
    validation: { fraction: 0.2 },
    epochs: 1,
    batchSize: 1,
  })
  const { report, validationReport } = start as { report: DataReport; validationReport?: DataReport }
  t.is(validationReport!.rows, 3)
  t.is(report.rows, 12)
  t.is(events.filter(({ type }) => type === 'step').length, 12)
  t.is(report.read + validationReport!.read, 16)
  t.is(report.dropped.tooLong, 1)
  t.is(validationReport!.dropped.tooLong, 0)
  t.is(report.stringPrompts.raw, 12)
  t.is(report.duplicates.exact + validationReport!.duplicates.exact + report.sharedWithValidation, 3)
  const all = await run(await tinyModel(), { data: rows, overflow: 'drop', maxSteps: 1 })
  for (const name of ['tokens', 'trainTokens'] as const)
    t.is(report[name] + validationReport![name], all.start.report[name], name)
  t.true(validationReport!.tokens < report.tokens)
})
