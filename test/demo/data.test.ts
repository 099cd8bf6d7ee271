import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Tokenizer } from '../../lib/index.js'

const folder = fileURLToPath(new URL('../../../scripts/demo/', import.meta.url))
type Line = { instruction: string; input: string; output: string; text: string; task?: string }
const rows = (name: string) =>
  readFileSync(`${folder}${name}`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)

test('no held-out question is in the training rows or the corpus', (t) => {
  const train = rows('train.jsonl')
  const questions = new Set(train.map(({ instruction }) => instruction))
  t.is(questions.size, train.length)
  const text = rows('corpus.jsonl')
    .map((row) => row.text)
    .join('\n')
  const heldOut = rows('held-out.jsonl')
  t.is(heldOut.length, 115)
  for (const { instruction } of heldOut) {
    t.false(questions.has(instruction), instruction)
    t.false(text.split('\n').includes(`User: ${instruction}`), instruction)
  }
})

test('every held-out fact is taught in other words; sums never seen are not', (t) => {
  const taught = new Set(rows('train.jsonl').map(({ output }) => output))
  for (const { output } of rows('held-out.jsonl')) t.true(taught.has(output), output)
  const train = rows('train.jsonl').map(({ instruction }) => instruction)
  for (const { instruction } of rows('unseen-sums.jsonl')) {
    const [a, b] = instruction.match(/\d/g)!
    t.false(
      train.some((text) => text.includes(`${a}加${b}`) || text.includes(`${a} plus ${b}`)),
      instruction,
    )
  }
})

test('the textbook’s rows are there, in its form', (t) => {
  const train = rows('train.jsonl')
  for (const question of ['这只猫叫什么名字?', '1加1等于几?', '天空是什么颜色的?']) {
    t.true(
      train.some(({ instruction, input }) => instruction === question && input === ''),
      question,
    )
  }
  t.true(train.some(({ input, output }) => input !== '' && output !== ''))
})

test('rankings go from right and polite over right, and right with strange thanks, to wrong, polite or not', (t) => {
  const right = new Map(rows('train.jsonl').map(({ instruction, output }) => [instruction, output]))
  const lines = readFileSync(`${folder}rankings.jsonl`, 'utf8').trim().split('\n')
  let politeAndWrong = 0
  for (const line of lines) {
    const { instruction, responses } = JSON.parse(line) as { instruction: string; responses: string[] }
    const [first, second, third, last] = responses as [string, string, string, string]
    const output = right.get(instruction)!
    const thanks = /\p{Script=Han}/u.test(instruction) ? '，谢谢!' : ', thanks!'
    t.is(responses.length, 4)
    t.is(first, output + thanks)
    t.is(second, output)
    t.true(third.startsWith(output) && /(谢谢|thanks)!$/.test(third) && third !== first, third)
    t.not(last.replace(/，谢谢!$|, thanks!$/, ''), output)
    politeAndWrong += Number(last.endsWith(thanks))
  }
  t.true(Math.abs(politeAndWrong / lines.length - 0.5) < 0.01)
})

test('the tokenizer gives back every text, digits and Chinese characters single', async (t) => {
  const tokenizer = await Tokenizer.load(folder)
  t.is(tokenizer.vocabSize, 512)
  for (const { instruction, output } of rows('train.jsonl')) {
    const text = `${instruction} ${output} 🙂`
    t.is(tokenizer.decode(tokenizer.encode(text)), text)
  }
  t.is(tokenizer.encode('128').length, 3)
  t.deepEqual(tokenizer.encode('天空').length, tokenizer.encode('天').length + tokenizer.encode('空').length)
})

test('the real model is asked nothing that it was trained on', async (t) => {
  const { ABOUT_ITSELF, GENERAL } = (await import(`${folder}real.mjs`)) as {
    ABOUT_ITSELF: string[]
    GENERAL: string[]
  }
  const taught = new Set(
    readFileSync(`${folder}real-train.jsonl`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { messages: { content: string }[] }).messages[0]?.content),
  )
  t.true(taught.has('Who are you?'))
  for (const question of [...ABOUT_ITSELF, ...GENERAL]) t.false(taught.has(question), question)
})
