// A real model against transformers: the same chat ids, logits, greedy responses, and losses of SFT steps on real rows.
// node scripts/dev/real/parity.mjs --model DIR --data ROWS.jsonl [--python PYTHON] [--steps 50]
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { AdamW, CausalLM, DataLoader, generate, Template } from '../../../dist/lib/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    steps: { type: 'string', default: '50' },
  },
})
if (!values.model || !values.data) {
  process.stderr.write(
    'usage: node scripts/dev/real/parity.mjs --model DIR --data ROWS.jsonl [--python PYTHON] [--steps 50]\n',
  )
  process.exit(2)
}
const user = (content) => [{ role: 'user', content }]
const chats = [
  ...[
    'What is the capital of France?',
    'Name three colours.',
    'Write a haiku about the sea.',
    'Who wrote Hamlet?',
    '1加1等于几?',
    '天空是什么颜色的?',
    '这只猫叫什么名字?',
    '请用中文介绍一下你自己。',
    'Write a Python function that adds two numbers.',
    'What does `git rebase` do?',
    'SELECT * FROM users; explain.',
    'Translate "good morning" into Spanish.',
    'Give me a recipe for pancakes.',
    'Count from 1 to 5.',
    'What is 12 + 30?',
    'Why is the sky blue? 🙂',
    'Summarise: The cat sat on the mat.',
  ].map(user),
  [{ role: 'system', content: 'You answer in one word.' }, ...user('Is water wet?')],
  [...user('My name is Ada.'), { role: 'assistant', content: 'Hello Ada!' }, ...user('What is my name?')],
  [
    ...user('Hi'),
    { role: 'assistant', content: 'Hi! How can I help?' },
    ...user('Tell me a joke.'),
    { role: 'assistant', content: 'Why did the chicken cross the road?' },
    ...user('Why?'),
  ],
]
const maxNewTokens = 24
const learningRate = 2e-5
const steps = Number(values.steps)

const model = await CausalLM.load(values.model)
const template = Template.fromSource(model.chatTemplate)
const loader = new DataLoader(values.data, {
  tokenizer: model.tokenizer,
  template,
  maxLength: 512,
  batchSize: 2,
  shuffle: true,
})
await loader.ready()
const batches = []
outer: for (let epoch = 0; ; epoch++) {
  for await (const batch of loader.epoch(epoch)) {
    if (batches.length === steps) break outer
    batches.push(batch)
  }
}
const rowsOf = ({ inputIds, labels, offsets }) =>
  Array.from({ length: offsets.length - 1 }, (_, d) => ({
    inputIds: [...inputIds.slice(offsets[d], offsets[d + 1])],
    labels: [...labels.slice(offsets[d], offsets[d + 1])],
  }))
const folder = mkdtempSync(join(tmpdir(), 'posttrain-parity-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
writeFileSync(
  join(folder, 'in.json'),
  JSON.stringify({ chats, maxNewTokens, learningRate, batches: batches.map(rowsOf) }),
)
const script = fileURLToPath(new URL('parity-pytorch.py', import.meta.url))
const run = spawnSync(
  values.python,
  [script, values.model, join(folder, 'in.json'), join(folder, 'out.json')],
  { stdio: ['ignore', 2, 2] },
)
if (run.status !== 0) process.exit(1)
const theirs = JSON.parse(readFileSync(join(folder, 'out.json'), 'utf8'))

const prompts = chats.map((messages) =>
  model.tokenizer.encode(template.prompt({ messages }, model.tokenizer), { allowSpecial: true }),
)
const sameIds = prompts.filter((ids, i) => JSON.stringify([...ids]) === JSON.stringify(theirs.ids[i])).length
const answers = await generate(model, prompts, { maxNewTokens })
const sameAnswers = answers.filter(
  ({ tokenIds }, i) => JSON.stringify([...tokenIds]) === JSON.stringify(theirs.answers[i]),
).length
let worstLogit = 0
for (const [i, ids] of prompts.entries()) {
  const logits = await model.logits({ inputIds: ids, offsets: Int32Array.of(0, ids.length) })
  const last = logits.subarray(logits.length - model.vocabSize)
  for (let v = 0; v < last.length; v++)
    worstLogit = Math.max(worstLogit, Math.abs(last[v] - theirs.logits[i][v]))
}
const optimizer = new AdamW(model, { learningRate, weightDecay: 0 })
let worstLoss = 0
const started = performance.now()
const losses = []
for (const [i, batch] of batches.entries()) {
  await optimizer.zeroGrad()
  const { loss } = await model.backward(batch, { kind: 'crossEntropy' })
  await optimizer.step({ maxGradNorm: 1 })
  losses.push(loss)
  worstLoss = Math.max(worstLoss, Math.abs(loss - theirs.losses[i]))
}
const seconds = (performance.now() - started) / 1000
process.stdout.write(
  `chat ids equal: ${sameIds} of ${chats.length}\ngreedy answers equal: ${sameAnswers} of ${chats.length}\n` +
    `largest difference of a logit: ${worstLogit.toExponential(2)}\n` +
    `largest difference of a loss in ${steps} SFT steps: ${worstLoss.toExponential(2)} (first ${losses[0]?.toFixed(4)}, last ${losses.at(-1)?.toFixed(4)}; ${seconds.toFixed(0)} s)\n`,
)
await model.dispose()
process.exit(
  sameIds === chats.length && sameAnswers === chats.length && worstLogit < 1e-3 && worstLoss < 2e-5 ? 0 : 1,
)
