// The textbook's training loop: batches, backward, step. Usage: node textbook-loop.js MODEL_DIR [EPOCHS]
import { AdamW, CausalLM, DataLoader, generate, plainTemplate } from '../lib/index.js'

const rows = [
  { instruction: '这只猫叫什么名字?', input: '', output: '小花' },
  { instruction: '1加1等于几?', input: '', output: '2' },
  { instruction: '天空是什么颜色的?', input: '', output: '蓝色' },
  { instruction: '把下面的句子翻译成英文。', input: '今天天气很好', output: 'The weather is nice today.' },
]
const [directory = '', epochs = '3'] = process.argv.slice(2)
const model = await CausalLM.load(directory)
const loader = new DataLoader(rows, {
  tokenizer: model.tokenizer,
  template: plainTemplate,
  maxLength: 128,
  batchSize: 3,
  seed: 0,
})
const optimizer = new AdamW(model, { learningRate: 1e-3 })

for (let epoch = 0; epoch < Number(epochs); epoch++) {
  let [batchMeans, lossSum, labels] = [0, 0, 0]
  for await (const batch of loader.epoch(epoch)) {
    await optimizer.zeroGrad()
    const sums = await model.backward(batch, { kind: 'crossEntropy', ignoreIndex: -100 })
    await optimizer.step({ maxGradNorm: 1 })
    batchMeans += sums.loss
    lossSum += sums.lossSum
    labels += sums.count
  }
  // The textbook averages the batch means, in which a token of a short batch weighs more than in the mean of all tokens.
  const textbook = (batchMeans / loader.batchesPerEpoch).toFixed(4)
  console.log(
    `epoch ${epoch + 1}/${epochs} loss ${textbook} (mean of batches), ${(lossSum / labels).toFixed(4)} (mean of tokens)`,
  )
}
const [completion] = await generate(model, [plainTemplate.prompt({ instruction: '1加1等于几?' })], {
  maxNewTokens: 20,
})
console.log(completion?.text.trim())
await optimizer.dispose()
await model.dispose()
