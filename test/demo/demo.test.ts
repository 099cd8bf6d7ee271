import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { CausalLM, generate, Template } from '../../lib/index.js'
import { transformersCheck } from '../helpers/transformers.js'

const demo = fileURLToPath(new URL('../../../scripts/demo.mjs', import.meta.url))

test('the demo runs through, and transformers opens its model with equal greedy answers', async (t) => {
  const output = mkdtempSync(join(tmpdir(), 'posttrain-demo-'))
  const { stdout } = await promisify(execFile)(process.execPath, [
    demo,
    '--quick',
    '--json',
    '--output',
    output,
  ])
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; after?: { rows: number } })
  t.is(events.filter(({ type }) => type === 'step').length, 16)
  t.is(events.at(-1)?.type, 'result')
  t.is(events.at(-1)?.after?.rows, 115)
  const folder = join(output, 'sft', 'model')
  t.true(existsSync(join(folder, 'chat_template.jinja')))

  await using model = await CausalLM.load(folder)
  const template = Template.fromSource(model.chatTemplate!)
  const messages = [{ role: 'user', content: '1加1等于几?' }]
  const chat = model.tokenizer.encode(template.prompt({ messages }, model.tokenizer), { allowSpecial: true })
  const prompts = [chat, model.tokenizer.encode('User: What'), model.tokenizer.encode('天空')]
  const answers = await generate(model, prompts, { maxNewTokens: 12 })
  const theirs = await transformersCheck(folder, {
    prompts,
    answers: answers.map(({ tokenIds }) => tokenIds),
    maxNewTokens: 12,
    messages,
  })
  if (theirs === null) {
    t.log('skipped: python3 (or POSTTRAIN_PYTHON) has no transformers')
    return
  }
  t.is(theirs.equal, prompts.length)
  t.deepEqual(theirs.chat, [...chat])
})

test('--real without a model is a wrong use', async (t) => {
  const failure = await t.throwsAsync(promisify(execFile)(process.execPath, [demo, '--real']))
  t.is((failure as unknown as { code: number }).code, 2)
  t.regex(failure?.message ?? '', /--model DIR/)
})
