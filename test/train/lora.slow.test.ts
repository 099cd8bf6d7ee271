import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type CausalLM, type LoraOptions, RewardModel } from '../../lib/index.js'
import { dpo } from '../../lib/train/dpo.js'
import { grpo, rloo } from '../../lib/train/grpo.js'
import { ppo } from '../../lib/train/ppo.js'
import { pretrain } from '../../lib/train/pretrain.js'
import { reward } from '../../lib/train/reward.js'
import type { Run } from '../../lib/train/run/run.js'
import { sft } from '../../lib/train/sft.js'
import { readTensors } from '../helpers/fixtures.js'
import { rankings } from '../helpers/preference-runs.js'
import { eventsOf, lossesOf, numbersOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

const code = 'ERR_INVALID_ARGUMENT'
const shared = { learningRate: 1e-2, seed: 1 }
const supervised = { ...shared, maxSteps: 3, batchSize: 4, maxLength: 64 }
const rolled = {
  ...shared,
  data: rankings(4).map(({ prompt }) => ({ prompt })),
  template: 'plain',
  maxNewTokens: 3,
  iterations: 1,
  reward: (samples: readonly { text: string }[]) => samples.map((_, i) => i % 3),
} as const
interface Given {
  model: CausalLM
  output: string
  lora?: Omit<LoraOptions, 'seed' | 'dropout'>
}

/** Every recipe on rows of its own. */
const RECIPES: Record<string, (given: Given) => Pick<Run, 'finish'> & AsyncIterable<{ type: string }>> = {
  sft: (given) => sft({ ...supervised, ...given, data: instructionRows(8), template: 'plain' }),
  pretrain: (given) => pretrain({ ...supervised, ...given, data: [{ text: 'abcabc' }, { text: 'bcabca' }] }),
  reward: ({ lora, ...given }) =>
    reward({
      ...supervised,
      ...given,
      ...(lora ? { lora } : given.model.adapter === null && { padToken: 'Ā' }),
      data: rankings(8),
      template: 'plain',
    }),
  dpo: (given) => dpo({ ...supervised, ...given, data: rankings(8), template: 'plain' }),
  ppo: (given) => ppo({ ...rolled, ...given, batchSize: 4 }),
  grpo: (given) => grpo({ ...rolled, ...given, batchSize: 2, groupSize: 2 }),
  rloo: (given) => rloo({ ...rolled, ...given, batchSize: 2, groupSize: 2 }),
}

/** Values in the tensors of a file. */
const sizesIn = (path: string) =>
  new Map([...readTensors(path)].map(([name, { values }]) => [name, values.length]))
const sumOf = (sizes: Map<string, number>) => [...sizes.values()].reduce((sum, size) => sum + size, 0)

for (const [name, run] of Object.entries(RECIPES)) {
  test(`${name}: the adapter alone is trained, kept and saved, and the base is the same bit for bit`, async (t) => {
    const output = cleanFolder(t)
    await using model = await tinyModel()
    const before = await weightsOf(model)
    const events = await eventsOf(run({ model, output, lora: { rank: 2 } }))
    const after = await weightsOf(model)
    for (const [parameter, values] of before) t.deepEqual(after.get(parameter), values, parameter)
    // A reward model's head is saved with its adapter.
    const adapter = sizesIn(join(output, 'adapter/adapter_model.safetensors'))
    t.true([...adapter.keys()].every((key) => key.includes('lora_') || key.endsWith('score.weight')))
    t.is(adapter.size, 28 + Number(name === 'reward'))
    const B = [...readTensors(join(output, 'adapter/adapter_model.safetensors'))].filter(([key]) =>
      key.includes('lora_B'),
    )
    t.true(B.every(([, { values }]) => values.some((value) => value !== 0)))

    // Neither a weight of the base nor a moment for one stands in a checkpoint.
    const checkpoints = join(output, 'checkpoints')
    const checkpoint = join(checkpoints, readdirSync(checkpoints).sort().at(-1)!)
    t.is(sumOf(sizesIn(join(checkpoint, 'model.safetensors'))), sumOf(adapter))
    const moments = sizesIn(join(checkpoint, 'optimizer.safetensors'))
    t.is(
      [...moments.values()].filter((size) => size > 1).reduce((sum, size) => sum + size, 0),
      2 * sumOf(adapter),
    )
    const [start] = events as unknown as { trainableParameters: number; parameters: number }[]
    t.is(start!.trainableParameters, sumOf(adapter))
    t.true(start!.parameters > start!.trainableParameters)
  })

  test(`${name}: adapter options without an effect are refused`, async (t) => {
    await using model = await tinyModel()
    const start = (more: object) => run({ model, output: cleanFolder(t), ...more } as unknown as Given)
    if (name !== 'sft' && name !== 'pretrain')
      t.throws(() => start({ lora: { dropout: 0.1 } }), { code, message: /unknown option lora\.dropout/ })
    else
      t.throws(() => start({ lora: { dropout: 0.1, dora: true } }), { code, message: /lora\.dropout cannot/ })
    t.throws(() => start({ lora: { rank: 0 } }), { code, message: /lora\.rank/ })
    t.throws(() => start({ lora: { rnak: 2 } }), { code, message: /did you mean lora\.rank/ })
    await t.throwsAsync(start({ lora: { targetModules: ['c_attn'] } }).finish(), {
      code,
      message: /no layer c_attn to adapt/,
    })
    t.deepEqual(model.adapters, [])
    t.true((await model.parameters()).every(({ trainable }) => trainable))
    await model.addAdapter('mine', { rank: 2 })
    await t.throwsAsync(start({ lora: {} }).finish(), { code, message: /mine in use/ })
    t.deepEqual(model.adapters, ['mine'])
  })

  test(`${name}: a run that fails before it starts takes its adapter off again, and the next one is as if it had not been`, async (t) => {
    await using model = await tinyModel()
    const output = cleanFolder(t)
    mkdirSync(join(output, 'model'), { recursive: true })
    await t.throwsAsync(run({ model, output, lora: { rank: 2 } }).finish(), {
      code,
      message: /holds another run/,
    })
    t.deepEqual(model.adapters, [])
    t.like(await run({ model, output: cleanFolder(t), lora: { rank: 2 } }).finish(), { reason: 'completed' })
    // What is learned stays in use; but the head that the other half of a reward model is went with the run.
    t.deepEqual(model.adapters, name === 'reward' ? [] : ['default'])
  })

  test(`${name}: a resume with other updates, or on another base, is refused before anything is changed`, async (t) => {
    const output = cleanFolder(t)
    const begin = async (seed: number, lora: LoraOptions, more: object = {}) => {
      await using model = await tinyModel(seed)
      await model.addAdapter('mine', { rank: 2, ...lora })
      const before = await weightsOf(model)
      const running = run({ model, output, ...more } as unknown as Given).finish()
      const refused = await running.then(
        () => null,
        (error: Error) => error.message,
      )
      if (refused !== null) t.deepEqual(await weightsOf(model), before)
      return refused
    }
    t.is(await begin(0, {}), null)
    for (const lora of [{ alpha: 32 }, { targetModules: ['q_proj'] }, { rsLora: true }])
      t.regex((await begin(0, lora, { resume: true })) ?? '', /option adapter was .*"alpha":4.* and is/)
    t.regex((await begin(7, {}, { resume: true })) ?? '', /or the base under the adapter, is/)
    t.is(await begin(0, {}, { resume: true }), null)
    if (name !== 'dpo' && name !== 'ppo') return
    // Also where the reference, another model, is the same as before.
    await using reference = await tinyModel(3)
    t.is(await begin(0, {}, { overwrite: true, reference }), null)
    t.regex((await begin(7, {}, { resume: true, reference })) ?? '', /or the base under the adapter, is/)
    t.is(await begin(0, {}, { resume: true, reference }), null)
  })

  test(`${name}: the trained adapter must be active when the run advances and when it saves`, async (t) => {
    await using model = await tinyModel()
    await model.addAdapter('mine', { rank: 2 })
    const judged = name === 'reward'
    const used = judged ? await RewardModel.fromCausalLM(model, { adapter: 'mine' }) : model
    const begin = async () => {
      const running = run({ model: used as CausalLM, output: cleanFolder(t) })
      const events = (running as Run)[Symbol.asyncIterator]()
      await events.next()
      return { running: running as Run, events }
    }
    const { running, events } = await begin()
    await used.setAdapter(null)
    const off = { code, message: /trains the model with adapter mine, and now it has no adapter in use/ }
    await t.throwsAsync(running.save(), off)
    await used.setAdapter('mine')
    await running.save()
    while ((await events.next()).value?.type !== 'step');
    await used.setAdapter(null)
    await t.throwsAsync(
      running.finish().catch(() => events.next().then(() => events.next())),
      off,
    )
  })

  test(`${name}: an adapter is not added to weights that another run trains`, async (t) => {
    await using model = await tinyModel()
    await using view = await model.view()
    const events = (run({ model, output: cleanFolder(t) }) as Run)[Symbol.asyncIterator]()
    await events.next()
    await t.throwsAsync(run({ model: view, output: cleanFolder(t), lora: { rank: 1 } }).finish(), {
      code,
      message: /trained by another run/,
    })
    t.deepEqual(model.adapters, [])
    t.is((await events.next()).value?.type, 'step')
    await view.addAdapter('mine', { rank: 1 })
    await t.throwsAsync(
      async () => {
        for (let i = 0; i < 20; i++) await events.next()
      },
      { code, message: /added adapter froze the weights/ },
    )
  })

  test(`${name}: one run at a time trains a model`, async (t) => {
    const alone = async (model: CausalLM) => lossesOf(await eventsOf(run({ model, output: cleanFolder(t) })))
    const expected = await alone(await tinyModel())
    await using model = await tinyModel()
    await using view = await model.view()
    const first = run({ model, output: cleanFolder(t) })[Symbol.asyncIterator]()
    const seen = [await first.next()]
    const second = run({ model, output: cleanFolder(t) }).finish()
    await t.throwsAsync(second, { code, message: /being trained by another run/ })
    while (!seen.at(-1)!.done) seen.push(await first.next())
    t.deepEqual(lossesOf(seen.flatMap(({ done, value }) => (done ? [] : [value]))), expected)
    // It is free again, also after a loop that was left.
    for await (const _ of run({ model, output: cleanFolder(t) })) break
    await alone(model)
    // Adapters of one base do not mind one another, but its own weights must stay.
    await model.addAdapter('mine', { rank: 2 })
    await view.addAdapter('yours', { rank: 2 })
    const events = run({ model, output: cleanFolder(t) })[Symbol.asyncIterator]()
    await events.next()
    await alone(view)
    await view.setAdapter('mine')
    await t.throwsAsync(alone(view), { code, message: /trained by another run/ })
    await events.return?.()
    await alone(view)
  })
}

test('all weights of a model are trained again once its adapter is merged, but not while an adapter is inactive', async (t) => {
  const all = async (model: CausalLM) =>
    lossesOf(await eventsOf(sft({ ...supervised, model, data: instructionRows(8), template: 'plain' })))
  const merged = async () => {
    const model = await tinyModel()
    await sft({
      ...supervised,
      model,
      data: instructionRows(8),
      template: 'plain',
      lora: { rank: 2 },
    }).finish()
    return model
  }
  await using model = await merged()
  await model.setAdapter(null)
  for (const run of [sft, ppo] as ((options: never) => Run)[])
    await t.throwsAsync(
      run({
        model,
        data: [{ prompt: 'a', completion: 'b' }],
        ...(run !== (sft as never) && { reward: rolled.reward }),
      } as never).finish(),
      { code, message: /frozen while it has adapters \(default\), and none of them is in use/ },
    )
  await model.setAdapter('default')
  await model.mergeAdapter()
  t.true((await model.parameters()).every(({ trainable }) => trainable))
  await using copy = await model.clone()
  t.deepEqual(await all(model), await all(copy))
})

test('a model that was disposed of leaves the run folder free', async (t) => {
  const output = cleanFolder(t)
  for (const recipe of ['sft', 'grpo']) {
    const model = await tinyModel()
    await model.dispose()
    await t.throwsAsync(RECIPES[recipe]!({ model, output }).finish(), { code: 'ERR_DISPOSED' })
    t.false(existsSync(output))
  }
})

test('saving a whole model is refused if the run trains an active adapter', async (t) => {
  await using model = await tinyModel()
  await model.addAdapter('mine', { rank: 2 })
  const given = {
    ...supervised,
    model,
    data: rankings(4),
    template: 'plain',
    output: cleanFolder(t),
  } as const
  for (const recipe of [dpo, reward]) {
    const run = recipe({ ...given, saveDtype: 'bfloat16' })
    await t.throwsAsync(run.finish(), { code, message: /saveDtype has no effect while adapter mine/ })
  }
  await t.throwsAsync(reward({ ...given, padToken: 'Ā' }).finish(), {
    code,
    message: /padToken has no effect while adapter mine/,
  })
})

test('dropout is drawn in sft, anew after a resume as without one, and off in what compares', async (t) => {
  const options = {
    ...supervised,
    data: instructionRows(16),
    template: 'plain',
    maxSteps: 6,
    seed: 2,
  } as const
  const run = async (dropout: number, more: object = {}, stopAt?: number) => {
    await using model = await tinyModel()
    const running = sft({ ...options, model, lora: { rank: 4, dropout }, ...more })
    const events = []
    for await (const event of running) {
      events.push(event)
      if (event.type === 'step' && event.step === stopAt) running.stop()
    }
    return numbersOf(events)
  }
  const dropped = await run(0.5)
  t.notDeepEqual(lossesOf(dropped), lossesOf(await run(0)))
  t.deepEqual(await run(0.5), dropped)
  const output = cleanFolder(t)
  const before = await run(0.5, { output }, 2)
  t.deepEqual([...before, ...(await run(0.5, { output, resume: true }))], dropped)

  const given = { ...supervised, data: rankings(8), template: 'plain' } as const
  const further = async (dropout: number) => {
    await using model = await tinyModel()
    await model.addAdapter('mine', { rank: 4, dropout, seed: 3 })
    await using judge = await tinyModel()
    await judge.addAdapter('mine', { rank: 4, dropout, seed: 3 })
    return [
      lossesOf(await eventsOf(dpo({ ...given, model }))),
      lossesOf(await eventsOf(reward({ ...given, model: judge }))),
    ]
  }
  t.deepEqual(await further(0.5), await further(0))
})

test('several adapters on one base: a reward model and a policy are trained one after another, each on its own', async (t) => {
  await using base = await tinyModel()
  const before = await weightsOf(base)
  await using policy = await base.view()
  await using judge = await RewardModel.fromCausalLM(base)
  const given = { ...supervised, data: rankings(8), template: 'plain', lora: { rank: 2 } } as const
  await reward({ ...given, model: judge }).finish()
  const texts = [policy.tokenizer.encode('Q1: yes'), policy.tokenizer.encode('Q1: no')]
  const scores = await judge.scores(texts)
  await dpo({ ...given, model: policy }).finish()
  t.deepEqual(await judge.scores(texts), scores)
  t.is(base.adapters.length, 2)
  t.not(judge.adapter, policy.adapter)
  t.is(base.adapter, null)
  t.deepEqual(await weightsOf(base), before)
  // Off and on again for one role alone.
  const trained = policy.adapter!
  const inputIds = texts[0]!
  const batch = { inputIds, offsets: Int32Array.of(0, inputIds.length) }
  const on = await policy.logits(batch)
  await policy.setAdapter(null)
  t.deepEqual(await policy.logits(batch), await base.logits(batch))
  t.deepEqual(await judge.scores(texts), scores)
  await policy.setAdapter(trained)
  t.deepEqual(await policy.logits(batch), on)
})

test('the template of a run stands beside its adapter, and a base that knows none takes it over', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  await sft({
    ...supervised,
    model,
    output,
    data: instructionRows(4),
    template: 'alpaca',
    maxLength: 256,
    lora: { rank: 2 },
  }).finish()
  const template = readFileSync(join(output, 'adapter/chat_template.jinja'), 'utf8')
  t.regex(template, /### Response/)
  await using again = await tinyModel()
  await again.loadAdapter('trained', join(output, 'adapter'))
  t.is(again.chatTemplate, template)
  t.deepEqual(again.stopIds, model.stopIds)
})
