import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { CausalLM, generate, RewardModel, Template } from '../../lib/index.js'
import { newFolder } from '../helpers/scratch.js'
import { transformersCheck } from '../helpers/transformers.js'

const demo = fileURLToPath(new URL('../../../scripts/demo.mjs', import.meta.url))

test('the demo runs through, and transformers opens its model with equal greedy responses', async (t) => {
  const output = newFolder(t)
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
    .map((line) => JSON.parse(line))
  // Pre-training, fine-tuning, manners, reward model, PPO.
  const stages = events.filter(({ type }) => type === 'start').map(({ totalSteps }) => totalSteps)
  t.deepEqual(stages, [3, 5, 3, 3, 2])
  const steps = events.filter(({ type }) => type === 'step')
  t.is(steps.length, 16)
  t.deepEqual(
    steps.map((step) => ('score' in step ? 'ppo' : 'margin' in step ? 'reward' : 'sft')).slice(-6),
    ['sft', 'reward', 'reward', 'reward', 'ppo', 'ppo'],
  )
  const result = events.at(-1)
  t.is(result.type, 'result')
  t.is(result.after.rows, 115)
  const { before, after, kl, rewardAccuracy } = result.alignment
  for (const { right, polite, score, samples } of [before, after]) {
    t.true(right >= 0 && right <= 1 && polite >= 0 && polite <= 1 && Number.isFinite(score))
    t.is(samples.length, 2)
  }
  t.is(kl, steps.at(-1).kl)
  t.true(rewardAccuracy > 0 && rewardAccuracy <= 1)
  await using judge = await RewardModel.load(join(output, 'reward', 'model'))
  const ids = judge.tokenizer.encode('User: What')
  const [score] = await judge.scores([{ promptIds: ids, completionIds: ids }])
  t.true(Number.isFinite(score))
  for (const part of ['model', 'critic']) t.true(existsSync(join(output, 'ppo', part, 'model.safetensors')))
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
