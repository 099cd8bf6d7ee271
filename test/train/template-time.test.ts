import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Template, Tokenizer } from '../../lib/data/index.js'
import { generate } from '../../lib/generate/generate.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import type { SftOptions } from '../../lib/train/options/options.generated.js'
import { sft } from '../../lib/train/sft.js'
import { lossesOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyConfig, weightsOf } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

/** The time of the clock, in milliseconds; the tests of this file set it. */
let now = Date.UTC(2026, 0, 2, 3, 4, 5)
class Clock extends Date {
  constructor(...given: unknown[]) {
    super(...((given.length === 0 ? [now] : given) as [number]))
  }
  static override now = () => now
}
globalThis.Date = Clock as DateConstructor

const DAY = 86_400_000
const CHAT =
  "{{ strftime_now('%d %b %Y') }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
const chatModel = () =>
  CausalLM.create(tinyConfig, {
    tokenizer: Tokenizer.fromFiles({ ...byteTokenizer().files, chatTemplate: CHAT }),
  })
const base = {
  data: instructionRows(12),
  validation: instructionRows(4, 20),
  evaluation: { everySteps: 2 },
  maxLength: 64,
  learningRate: 1e-3,
  batchSize: 4,
  epochs: 2,
} satisfies Partial<SftOptions>

async function run(model: CausalLM, given: Partial<SftOptions>, stopAt = Number.POSITIVE_INFINITY) {
  await using own = model
  const training = sft({ ...base, ...given, model: own })
  const events = []
  for await (const event of training) {
    events.push(event)
    if (event.type === 'step' && event.step === stopAt) training.stop()
  }
  const start = events[0] as Extract<(typeof events)[0], { type: 'start' }>
  const evaluations = events.flatMap((event) => (event.type === 'evaluation' ? [event.loss] : []))
  return { losses: lossesOf(events), evaluations, start, weights: await weightsOf(own) }
}

test.serial(
  'a run resumed on another day renders its rows with the day of its start, to the same bits',
  async (t) => {
    now = Date.UTC(2026, 0, 2, 12)
    const whole = await run(await chatModel(), {})
    t.regex(whole.start.report.example!, /^02 Jan 2026\[user\]/)
    const output = cleanFolder(t)
    const first = await run(await chatModel(), { output }, 2)
    now += 3 * DAY
    const second = await run(await chatModel(), { output, resume: true })
    t.is(second.start.report.example, whole.start.report.example)
    t.regex(second.start.validationReport!.example!, /^02 Jan 2026\[user\]/)
    t.deepEqual([...first.losses, ...second.losses], whole.losses)
    t.deepEqual([...first.evaluations, ...second.evaluations], whole.evaluations)
    t.deepEqual(second.weights, whole.weights)
    // Begun anew, a run has its own day, and the option gives another.
    const anew = await run(await chatModel(), { epochs: 1 })
    t.regex(anew.start.report.example!, /^05 Jan 2026/)
    const given = await run(await chatModel(), { epochs: 1, templateTime: '1999-12-31T12:00:00Z' })
    t.regex(given.start.report.example!, /^31 Dec 1999/)
    await t.throwsAsync(
      run(await chatModel(), { output, resume: true, templateTime: '1999-12-31T12:00:00Z', epochs: 3 }),
      { code: 'ERR_INVALID_ARGUMENT', message: /option templateTime was "2026-01-02/ },
    )
  },
)

test.serial(
  'a saved model, and one that took over the template of a run, are asked with the day of the clock',
  async (t) => {
    const output = cleanFolder(t)
    const greedy = { maxNewTokens: 4, logProbs: true }
    const question = [{ role: 'user', content: '1+1=?' }]
    const asked = (day: string) => `${day}[user]1+1=?<eos>[assistant]`
    now = Date.UTC(2026, 0, 2, 12)
    await using bare = await CausalLM.create(tinyConfig, { tokenizer: byteTokenizer() })
    await sft({ ...base, model: bare, template: Template.fromSource(CHAT), output, epochs: 1 }).finish()
    const folder = join(output, 'model')
    t.true(readFileSync(join(folder, 'chat_template.jinja'), 'utf8').includes('strftime_now'))
    now += 3 * DAY
    await using saved = await CausalLM.load(folder)
    for (const model of [bare, saved]) {
      const [expected] = await generate(model, [asked('05 Jan 2026')], greedy)
      const [found] = await generate(model, [question], greedy)
      t.deepEqual(found!.logProbs, expected!.logProbs)
      t.is(
        Template.fromSource(model.chatTemplate!).prompt({ messages: question }, model.tokenizer),
        asked('05 Jan 2026'),
      )
    }
  },
)
