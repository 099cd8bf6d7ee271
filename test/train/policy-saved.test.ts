import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM, generate, ppo, RewardModel } from '../../lib/index.js'
import { makeCritic } from '../../lib/train/roles/critic.js'
import { close } from '../helpers/close.js'
import { NO_PEFT, peftCheck } from '../helpers/peft.js'
import { cleanFolder } from '../helpers/scratch.js'
import { idsOf, tinyPolicy, type Wish, wished, wishes } from '../helpers/tiny-policy.js'
import { transformersCheck } from '../helpers/transformers.js'

const shared = {
  data: wishes,
  batchSize: 6,
  maxNewTokens: 5,
  iterations: 2,
  learningRate: 1e-2,
  reward: wished,
} as const
const texts = ['abc', 'e', 'ghhaibi'].map((text) => Int32Array.from(idsOf(text)))
const lists = texts.map((ids) => [...ids])

async function logitsOf(model: CausalLM): Promise<number[]> {
  const all: number[] = []
  for (const ids of texts)
    all.push(...(await model.logits({ inputIds: ids, offsets: Int32Array.of(0, ids.length) })))
  return all
}

test('models of their own: actor and critic open again, here and in transformers', async (t) => {
  await using model = await tinyPolicy(10)
  const before = await logitsOf(model)
  const output = cleanFolder(t)
  await ppo<Wish>({ ...shared, model, output }).finish()
  const logits = await logitsOf(model)
  t.notDeepEqual(logits, before)
  await using actor = await CausalLM.load(join(output, 'model'))
  t.deepEqual(await logitsOf(actor), logits)
  await using critic = await RewardModel.load(join(output, 'critic'))
  const values = await critic.scores(texts)
  t.true(values.every((value) => value !== 0))
  // The checkpoint's critic is the saved one.
  await using again = await makeCritic({ model, seed: 0 }, [])
  await again.loadWeights(join(output, 'checkpoints/step-2/critic-model.safetensors'))
  t.deepEqual(await again.scores(texts), values)
  const answers = await generate(actor, texts, { maxNewTokens: 6 })
  const said = await transformersCheck(join(output, 'model'), {
    prompts: texts,
    answers: answers.map(({ tokenIds }) => tokenIds),
    maxNewTokens: 6,
    messages: [{ role: 'user', content: 'abc' }],
  })
  if (said === null) t.log('skipped: python3 (or POSTTRAIN_PYTHON) has no transformers')
  else t.like(said, { equal: 3, of: 3, dtype: 'float32' })
  const scored = await peftCheck({ score: join(output, 'critic') }, lists)
  if (scored === null) t.log(NO_PEFT)
  else close(t, scored.scores, values, { absolute: 1e-5 }, 'values')
})

test('one base: the adapters of actor and critic open again, here and in PEFT', async (t) => {
  const output = cleanFolder(t)
  const folder = `${output}-base`
  {
    await using made = await tinyPolicy(10)
    await made.save(folder)
  }
  await using model = await CausalLM.load(folder)
  const before = await logitsOf(model)
  await ppo<Wish>({ ...shared, model, output, lora: { rank: 2 } }).finish()
  const logits = await logitsOf(model)
  t.notDeepEqual(logits, before)
  await using base = await CausalLM.load(folder)
  t.deepEqual(await logitsOf(base), before)
  await base.loadAdapter('trained', join(output, 'adapter'))
  close(t, await logitsOf(base), logits, { absolute: 1e-6 }, 'logits')
  await using critic = await RewardModel.load(join(output, 'critic'))
  const values = await critic.scores(texts)
  t.true(values.every((value) => value !== 0))
  const config = JSON.parse(readFileSync(join(output, 'critic/adapter_config.json'), 'utf8'))
  t.like(config, { r: 2, modules_to_save: ['score'], base_model_name_or_path: folder })
  const said = await peftCheck({ base: folder, adapter: join(output, 'adapter') }, lists)
  if (said === null) t.log(NO_PEFT)
  else close(t, said.logits.flat(), logits, { absolute: 1e-4 }, 'logits in PEFT')
  const scored = await peftCheck({ score: folder, adapter: join(output, 'critic') }, lists)
  if (scored !== null) close(t, scored.scores, values, { absolute: 1e-5 }, 'values in PEFT')
})

test('the config of a run names its models and writes none of them down', async (t) => {
  await using model = await tinyPolicy(10)
  await using reference = await tinyPolicy(10)
  await using other = await tinyPolicy(2)
  await using critic = await RewardModel.fromCausalLM(other)
  const output = cleanFolder(t)
  const options = { ...shared, iterations: 1, reference, critic, output }
  await ppo<Wish>({ ...options, model }).finish()
  const text = readFileSync(join(output, 'config.json'), 'utf8')
  t.true(text.length < 4000, `${text.length} characters`)
  t.like(JSON.parse(text), {
    recipe: 'ppo',
    options: { reference: '(model)', critic: '(model)', reward: [{ name: 'wished', weight: 1 }] },
  })
  await using again = await tinyPolicy(10)
  t.is((await ppo<Wish>({ ...options, model: again, resume: true }).finish()).steps, 1)
})
