import test from 'ava'
import { rawPromptIds } from '../../lib/data/encode/mask.js'
import { CausalLM, chat, generate, type Message, plainTemplate, stream, Template } from '../../lib/index.js'
import { close } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'

const folder = fixture('models', 'llama')
const prompts = ['abc', 'Hello world 12', 'z']
let model: CausalLM
test.before(async () => {
  model = await CausalLM.load(folder)
})
test.after.always(() => model?.dispose())

test('a batch gives what each prompt gives alone, and stream gives the same text', async (t) => {
  const together = await generate(model, prompts, { maxNewTokens: 12, stopIds: [] })
  const streamed = prompts.map(() => '')
  for await (const { index, text } of stream(model, prompts, { maxNewTokens: 12, stopIds: [] }))
    streamed[index] += text
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await generate(model, [prompt], { maxNewTokens: 12, stopIds: [] })
    t.deepEqual(alone!.tokenIds, together[i]!.tokenIds)
    t.is(streamed[i], together[i]!.text)
    t.is(together[i]!.finishReason, 'length')
    t.is(together[i]!.tokenIds.length, 12)
  }
})

test('templateArguments reach the template of messages, and of texts that it puts in a turn', async (t) => {
  const template = Template.fromSource(
    "{% for m in messages %}{{ m.content }}{% endfor %}{{ 'yz' if short is defined else 'a longer end' }}",
  )
  const options = { template, maxNewTokens: 4, stopIds: [] }
  const messages: Message[] = [{ role: 'user', content: 'abc' }]
  const expected = await generate(model, ['abcyz', 'abca longer end'], { maxNewTokens: 4, stopIds: [] })
  const made = await generate(model, [messages, 'abc'], { ...options, templateArguments: { short: true } })
  t.deepEqual(made, [expected[0]!, expected[0]!])
  t.deepEqual(await generate(model, [messages], options), [expected[1]!])
  await t.throwsAsync(generate(model, [messages], { ...options, templateArguments: [] as never }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /templateArguments must be an object/,
  })
})

test('each row may fill the context: the room of a longer prompt beside it does not count', async (t) => {
  const long = 'a'.repeat(60)
  const both = await generate(model, ['abc', long], { maxNewTokens: 40, stopIds: [] })
  const [alone] = await generate(model, ['abc'], { maxNewTokens: 40, stopIds: [] })
  t.deepEqual(both[0], alone)
  t.is(both[0]!.tokenIds.length, 40)
  const left = 64 - model.tokenizer.encode(long).length - model.tokenizer.prefixIds.length
  t.true(left < 40)
  t.is(both[1]!.tokenIds.length, left)
  t.is(both[1]!.finishReason, 'length')
})

test('stop ids end a row and are its last token; stop texts are cut off, across tokens too', async (t) => {
  const [whole] = await generate(model, ['abc'], { maxNewTokens: 12, stopIds: [] })
  const third = whole!.tokenIds[3]!
  const at = whole!.tokenIds.indexOf(third)
  const [stopped] = await generate(model, ['abc'], { maxNewTokens: 12, stopIds: [third] })
  t.is(stopped!.finishReason, 'stop')
  t.deepEqual(stopped!.tokenIds, whole!.tokenIds.slice(0, at + 1))
  const stop = whole!.text.slice(4, 7)
  const [cut] = await generate(model, ['abc'], { maxNewTokens: 12, stopIds: [], stop })
  t.is(cut!.text, whole!.text.slice(0, whole!.text.indexOf(stop)))
  t.is(cut!.finishReason, 'stop')
})

test('the same seed draws the same, another one something else, whatever else is in the batch', async (t) => {
  const options = { maxNewTokens: 12, stopIds: [], temperature: 1 }
  const [one] = await generate(model, ['abc'], { ...options, seed: 3 })
  const [same] = await generate(model, prompts, { ...options, seed: 3 })
  const [other] = await generate(model, ['abc'], { ...options, seed: 4 })
  t.deepEqual(one!.tokenIds, same!.tokenIds)
  t.notDeepEqual(one!.tokenIds, other!.tokenIds)
})

test('draws follow softmax(logits / temperature), top-k and top-p', async (t) => {
  const count = 4000
  const ids = model.tokenizer.encode('abc')
  const logits = (await model.logits({ inputIds: ids, offsets: Int32Array.of(0, ids.length) })).slice(
    -model.vocabSize,
  )
  const temperature = 1.5
  const weights = [...logits].map((value) => Math.exp(value / temperature))
  const order = [...weights.keys()].toSorted((a, b) => weights[b]! - weights[a]!)
  const total = weights.reduce((sum, value) => sum + value, 0)
  const nucleus: number[] = []
  for (let sum = 0; sum < 0.7 * total; sum += weights[nucleus.at(-1)!]!) nucleus.push(order[nucleus.length]!)
  for (const [options, kept] of [
    [{}, order],
    [{ topK: 5 }, order.slice(0, 5)],
    [{ topP: 0.7 }, nucleus],
  ] as const) {
    const rows = await generate(model, Array(count).fill(ids), {
      maxNewTokens: 1,
      stopIds: [],
      temperature,
      seed: 1,
      ...options,
    })
    const seen = new Map<number, number>()
    for (const { tokenIds } of rows) seen.set(tokenIds[0]!, (seen.get(tokenIds[0]!) ?? 0) + 1)
    const mass = kept.reduce((sum, id) => sum + weights[id]!, 0)
    t.true([...seen.keys()].every((id) => kept.includes(id)))
    // Chi-square over tokens that are expected often enough; 5 standard deviations above its mean is never chance.
    let chi = 0
    let cells = 0
    for (const id of kept) {
      const expected = (count * weights[id]!) / mass
      if (expected < 8) continue
      chi += ((seen.get(id) ?? 0) - expected) ** 2 / expected
      cells++
    }
    t.true(chi < cells + 5 * Math.sqrt(2 * cells), `chi-square ${chi} over ${cells} tokens`)
  }
})

test('log-probs of a sampled row are those of logits / temperature', async (t) => {
  const [row] = await generate(model, ['abc'], {
    maxNewTokens: 6,
    stopIds: [],
    temperature: 1,
    seed: 2,
    logProbs: true,
  })
  const [scored] = await model.logProbs([
    { promptIds: model.tokenizer.encode('abc'), completionIds: row!.tokenIds },
  ])
  close(t, row!.logProbs!, scored!.perToken, { absolute: 1e-4 })
})

test('an abort rejects, a break ends, and the model goes on working', async (t) => {
  const abort = new AbortController()
  const reason = new Error('enough')
  const failure = await t.throwsAsync(async () => {
    for await (const _ of stream(model, prompts, { maxNewTokens: 50, stopIds: [], signal: abort.signal }))
      abort.abort(reason)
  })
  t.is(failure?.name, 'AbortError')
  t.is(failure?.cause, reason)
  for await (const _ of stream(model, prompts, { maxNewTokens: 50, stopIds: [] })) break
  t.is((await generate(model, ['abc'], { maxNewTokens: 2, stopIds: [] })).length, 1)
})

test('prompts and options that cannot be used are refused by name', async (t) => {
  const refused = async (message: RegExp, run: () => Promise<unknown>) => {
    await t.throwsAsync(run, { code: 'ERR_INVALID_ARGUMENT', message })
  }
  await refused(/at least one prompt/, () => generate(model, []))
  await refused(/prompt 1 is empty/, () => generate(model, ['a', '']))
  await refused(/context of 64/, () => generate(model, ['a'.repeat(64)]))
  await refused(/outside the vocabulary/, () => generate(model, [Int32Array.of(1000)]))
  await refused(/no effect at temperature 0/, () => generate(model, ['a'], { topK: 5 }))
  await refused(/topP/, () => generate(model, ['a'], { temperature: 1, topP: 0 }))
  await refused(/temprature/, () => generate(model, ['a'], { temprature: 1 } as never))
  await refused(/no chat template/, () => chat(model, [{ role: 'user', content: 'a' }] as Message[]).next())
})

test('a model disposed while it generates ends the call with ERR_DISPOSED', async (t) => {
  const own = await CausalLM.load(folder)
  const running = generate(own, prompts, { maxNewTokens: 50, stopIds: [] })
  await new Promise((resolve) => setImmediate(resolve))
  await own.dispose()
  await t.throwsAsync(running, { code: 'ERR_DISPOSED' })
  await t.throwsAsync(() => generate(own, ['a']), { code: 'ERR_DISPOSED' })
})

test('a text is taken as rendered, or put in a user turn, or read as training reads a raw one', async (t) => {
  const { tokenizer } = model
  const marks = tokenizer.specialTokens[0]!.token
  const ids = async (text: string, options = {}) => {
    const [given] = await generate(model, [text], { maxNewTokens: 4, stopIds: [], ...options })
    return [...given!.tokenIds]
  }
  const of = async (prompt: Int32Array) => [
    ...(await generate(model, [prompt], { maxNewTokens: 4, stopIds: [] }))[0]!.tokenIds,
  ]
  const text = `abc ${marks} z `
  const raw = await of(rawPromptIds(text, false, tokenizer))
  const rendered = await of(rawPromptIds(text, true, tokenizer))
  t.notDeepEqual(raw, rendered)
  t.deepEqual(await ids(text), rendered)
  t.deepEqual(await ids(text, { template: 'none' }), rendered)
  t.deepEqual(await ids(text, { rendered: false }), raw)
  const turn = plainTemplate.promptIds({ instruction: text }, tokenizer)
  t.deepEqual(await ids(text, { template: 'plain' }), await of(turn))
  t.deepEqual(await ids(text, { template: plainTemplate }), await of(turn))
  const messages: Message[] = [{ role: 'user', content: text }]
  const options = { maxNewTokens: 4, stopIds: [], template: 'plain' }
  t.deepEqual([...(await generate(model, [messages], options))[0]!.tokenIds], await of(turn))
  await t.throwsAsync(ids(text, { template: 'plain', rendered: false }), {
    message: /option rendered has no effect with a template/,
  })
})
