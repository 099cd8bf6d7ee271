// Writes the demo's data into scripts/demo/: instructions (train, held-out, sums never seen) and a corpus of plain text.
// Everything is generated from the tables below with a fixed seed; run it again after a change and commit the result.
import { writeFileSync } from 'node:fs'

const folder = new URL('../../demo/', import.meta.url)

// A small generator with a fixed seed (mulberry32), so that the files are the same everywhere.
let state = 20260
function random() {
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}
function shuffled(list) {
  const result = [...list]
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[result[i], result[j]] = [result[j], result[i]]
  }
  return result
}

const COLOURS = [
  ['天空', '蓝色', 'the sky', 'blue'],
  ['草', '绿色', 'grass', 'green'],
  ['雪', '白色', 'snow', 'white'],
  ['煤', '黑色', 'coal', 'black'],
  ['太阳', '金色', 'the sun', 'gold'],
  ['血', '红色', 'blood', 'red'],
  ['香蕉', '黄色', 'a banana', 'yellow'],
  ['橙子', '橙色', 'an orange', 'orange'],
  ['葡萄', '紫色', 'a grape', 'purple'],
  ['泥土', '棕色', 'soil', 'brown'],
  ['大象', '灰色', 'an elephant', 'grey'],
  ['桃花', '粉色', 'peach blossom', 'pink'],
  ['月亮', '银色', 'the moon', 'silver'],
  ['大海', '深蓝色', 'the ocean', 'dark blue'],
  ['树叶', '浅绿色', 'a leaf', 'light green'],
  ['牛奶', '乳白色', 'milk', 'creamy white'],
  ['番茄', '大红色', 'a tomato', 'bright red'],
  ['乌鸦', '漆黑色', 'a crow', 'jet black'],
  ['柠檬', '淡黄色', 'a lemon', 'pale yellow'],
  ['铁锈', '红棕色', 'rust', 'reddish brown'],
]
const COLOUR_PHRASINGS = [
  ([zh, a]) => [`${zh}是什么颜色的?`, a],
  ([zh, a]) => [`请问${zh}是什么颜色的?`, a],
  ([zh, a]) => [`告诉我${zh}是什么颜色。`, a],
  ([zh, a]) => [`${zh}的颜色是什么?`, a],
  ([zh, a]) => [`${zh}看起来是什么颜色?`, a],
  ([zh, a]) => [`你知道${zh}是什么颜色吗?`, a],
  ([, , en, a]) => [`What colour is ${en}?`, a],
  ([, , en, a]) => [`Tell me what colour ${en} is.`, a],
  ([, , en, a]) => [`Which colour is ${en}?`, a],
  ([, , en, a]) => [`Do you know what colour ${en} is?`, a],
  ([, , en, a]) => [`Please name the colour of ${en}.`, a],
]

const ANTONYMS = [
  ['大', '小', 'big', 'small'],
  ['高', '矮', 'tall', 'short'],
  ['快', '慢', 'fast', 'slow'],
  ['热', '冷', 'hot', 'cold'],
  ['新', '旧', 'new', 'old'],
  ['好', '坏', 'good', 'bad'],
  ['多', '少', 'many', 'few'],
  ['远', '近', 'far', 'near'],
  ['轻', '重', 'light', 'heavy'],
  ['早', '晚', 'early', 'late'],
  ['开', '关', 'open', 'closed'],
  ['胖', '瘦', 'fat', 'thin'],
  ['强', '弱', 'strong', 'weak'],
  ['贵', '便宜', 'dear', 'cheap'],
  ['干净', '肮脏', 'clean', 'dirty'],
  ['高兴', '难过', 'happy', 'sad'],
]
const ANTONYM_PHRASINGS = [
  ([zh, a]) => [`“${zh}”的反义词是什么?`, a],
  ([zh, a]) => [`请说出“${zh}”的反义词。`, a],
  ([zh, a]) => [`请问“${zh}”的反义词是哪个?`, a],
  ([zh, a]) => [`告诉我“${zh}”的反义词。`, a],
  ([, , en, a]) => [`What is the opposite of ${en}?`, a],
  ([, , en, a]) => [`Give me the opposite of ${en}.`, a],
  ([, , en, a]) => [`Please tell me the opposite of ${en}.`, a],
]

const ANIMALS = [
  ['猫', '小花', 'cat', 'Mimi'],
  ['狗', '旺旺', 'dog', 'Rex'],
  ['马', '追风', 'horse', 'Storm'],
  ['牛', '大力', 'cow', 'Bella'],
  ['鸟', '点点', 'bird', 'Kiki'],
  ['鱼', '泡泡', 'fish', 'Bubbles'],
  ['兔子', '雪球', 'rabbit', 'Snowy'],
  ['羊', '棉花', 'sheep', 'Wooly'],
  ['猪', '胖胖', 'pig', 'Rosie'],
  ['鸭子', '嘎嘎', 'duck', 'Donna'],
]
const ANIMAL_PHRASINGS = [
  ([zh, a]) => [`这只${zh}叫什么名字?`, a],
  ([zh, a]) => [`请问这只${zh}叫什么名字?`, a],
  ([zh, a]) => [`告诉我这只${zh}叫什么。`, a],
  ([zh, a]) => [`你知道这只${zh}叫什么吗?`, a],
  ([, , en, a]) => [`What is the name of this ${en}?`, a],
  ([, , en, a]) => [`Tell me the name of this ${en}.`, a],
  ([, , en, a]) => [`Do you know the name of this ${en}?`, a],
]

const SUMS = []
for (let a = 0; a < 10; a++) for (let b = 0; b < 10; b++) SUMS.push([a, b, String(a + b)])
const SUM_PHRASINGS = [
  ([a, b, c]) => [`${a}加${b}等于几?`, c],
  ([a, b, c]) => [`请问${a}加${b}等于几?`, c],
  ([a, b, c]) => [`${a}加${b}等于多少?`, c],
  ([a, b, c]) => [`请计算${a}加${b}。`, c],
  ([a, b, c]) => [`What is ${a} plus ${b}?`, c],
  ([a, b, c]) => [`Tell me what ${a} plus ${b} is.`, c],
  ([a, b, c]) => [`How much is ${a} plus ${b}?`, c],
]

/** Facts, phrasings, and how many rows are held out: new phrasings of facts whose other phrasings are taught. */
const TASKS = [
  { task: 'colour', facts: COLOURS, phrasings: COLOUR_PHRASINGS, heldOut: 40 },
  { task: 'antonym', facts: ANTONYMS, phrasings: ANTONYM_PHRASINGS, heldOut: 16 },
  { task: 'name', facts: ANIMALS, phrasings: ANIMAL_PHRASINGS, heldOut: 10 },
  { task: 'sum', facts: SUMS, phrasings: SUM_PHRASINGS, heldOut: 49 },
]

const train = []
const heldOut = []
const unseen = []
// Ten sums are taught in no phrasing at all.
const unseenSums = new Set(shuffled(SUMS.filter(([a, b]) => a > 1 && b > 1)).slice(0, 10))
for (const { task, facts, phrasings, heldOut: count } of TASKS) {
  const taught = facts.filter((fact) => !unseenSums.has(fact))
  // At most two phrasings of a fact, and never the first one.
  const candidates = [1, 2].flatMap(() => shuffled(taught))
  const taken = new Map()
  for (const fact of candidates.slice(0, count)) {
    const free = phrasings.map((_, i) => i).filter((i) => i > 0 && !taken.get(fact)?.includes(i))
    taken.set(fact, [...(taken.get(fact) ?? []), shuffled(free)[0]])
  }
  for (const fact of facts) {
    for (const [i, phrasing] of phrasings.entries()) {
      const [instruction, output] = phrasing(fact)
      const row = { instruction, input: '', output }
      if (unseenSums.has(fact)) unseen.push({ ...row, task })
      else if (taken.get(fact)?.includes(i)) heldOut.push({ ...row, task })
      else train.push(row)
    }
  }
}
train.push({
  instruction: '把下面的句子翻译成英文。',
  input: '今天天气很好',
  output: 'The weather is nice today.',
})

// Plain text: statements of the facts, and questions that follow questions, so that a model that has only read
// continues a question with another one.
const STATEMENTS = [
  ...COLOURS.flatMap(([zh, a, en, b]) => [
    `${zh}是${a}的。`,
    `${en[0].toUpperCase()}${en.slice(1)} is ${b}.`,
  ]),
  ...ANTONYMS.flatMap(([zh, a, en, b]) => [`“${zh}”和“${a}”意思相反。`, `The opposite of ${en} is ${b}.`]),
  ...ANIMALS.flatMap(([zh, a, en, b]) => [`这只${zh}叫${a}。`, `This ${en} is called ${b}.`]),
  ...SUMS.filter((sum) => !unseenSums.has(sum)).map(([a, b, c]) => `${a}加${b}等于${c}。`),
]
const QUESTIONS = train.filter(({ input }) => input === '').map(({ instruction }) => instruction)
const SCENES = [
  '早上，孩子们在院子里看动物。',
  '老师在黑板上写字，学生们在听。',
  '晚上，一家人坐在一起说话。',
  'In the morning the children looked at the animals in the yard.',
  'The teacher wrote on the board and the class listened.',
  'In the evening the family sat together and talked.',
]
const documents = []
for (let i = 0; i < 420; i++) {
  const length = 4 + Math.floor(random() * 5)
  const pick = (list) => shuffled(list).slice(0, length)
  if (i % 2 === 0) documents.push(`User: ${pick(QUESTIONS).join('\nUser: ')}`)
  else documents.push(`${shuffled(SCENES)[0]}\n${pick(STATEMENTS).join(' ')}`)
}

const lines = (rows) => `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`
writeFileSync(new URL('train.jsonl', folder), lines(shuffled(train)))
writeFileSync(new URL('held-out.jsonl', folder), lines(heldOut))
writeFileSync(new URL('unseen-sums.jsonl', folder), lines(unseen))
writeFileSync(new URL('corpus.jsonl', folder), lines(documents.map((text) => ({ text }))))

// The third stage: politer responses. Some rows with polite responses, so that the model knows them; and rankings of four
// responses, the best first: right and polite, right, right with thanks of another language or its comma (or the actor
// would find out that those earn as much), wrong (polite or not, so that politeness alone earns nothing).
const chinese = (text) => /\p{Script=Han}/u.test(text)
const polite = (instruction, output) => output + (chinese(instruction) ? '，谢谢!' : ', thanks!')
const STRANGE_THANKS = [',谢谢!', '， thanks!', '，谢谢!', ', thanks!']
const strange = (instruction, output, i) => {
  const thanks = STRANGE_THANKS.filter((text) => output + text !== polite(instruction, output))
  return output + thanks[i % thanks.length]
}
const taughtRows = train.filter(({ input }) => input === '')
const manners = shuffled(taughtRows).map((row, i) =>
  i % 3 === 0 ? { ...row, output: polite(row.instruction, row.output) } : row,
)
const wrongFor = ({ instruction, output }) => {
  const others = taughtRows.filter(
    (row) => row.output !== output && chinese(row.instruction) === chinese(instruction),
  )
  // Half of them of the same kind: another color for a color, another number for a sum.
  const alike = others.filter((row) => /\d/.test(row.output) === /\d/.test(output))
  return shuffled(random() < 0.5 && alike.length > 0 ? alike : others)[0].output
}
const rankings = shuffled(taughtRows).map((row, i) => {
  const wrong = wrongFor(row)
  return {
    instruction: row.instruction,
    responses: [
      polite(row.instruction, row.output),
      row.output,
      strange(row.instruction, row.output, i),
      i % 2 === 0 ? wrong : polite(row.instruction, wrong),
    ],
  }
})

writeFileSync(new URL('polite.jsonl', folder), lines(shuffled(manners)))
writeFileSync(new URL('rankings.jsonl', folder), lines(rankings))
process.stdout.write(
  `${train.length} rows to train, ${heldOut.length} held out, ${unseen.length} of sums never seen, ${documents.length} documents\n`,
)
