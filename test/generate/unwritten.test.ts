import test from 'ava'
import { CausalLM, generate } from '../../lib/index.js'
import { loadHooks } from '../bindings/hooks.js'
import { fixture } from '../helpers/fixtures.js'

test('rows of other lengths read no cached position that was never written', async (t) => {
  const { hooks } = await loadHooks()
  const prompts = ['abc', 'Hello world 12', 'z']
  for (const dtype of ['float32', 'float64'] as const) {
    await using model = await CausalLM.load(fixture('models', 'llama'), { dtype })
    const expected = await Promise.all(
      prompts.map((prompt) => generate(model, [prompt], { maxNewTokens: 40, stopIds: [] })),
    )
    hooks.poison(true)
    t.teardown(() => hooks.poison(false))
    const together = await generate(model, prompts, { maxNewTokens: 40, stopIds: [] })
    hooks.poison(false)
    t.deepEqual(
      together.map(({ tokenIds }) => [...tokenIds]),
      expected.map(([alone]) => [...alone!.tokenIds]),
      dtype,
    )
  }
})

test('every value of a model is read from its files, and of a new one drawn', async (t) => {
  const { hooks } = await loadHooks()
  const ids = { inputIds: Int32Array.of(1, 2, 3), offsets: Int32Array.of(0, 3) }
  for (const name of ['gpt2', 'llama', 'qwen3', 'gemma3']) {
    await using plain = await CausalLM.load(fixture('models', name))
    hooks.poison(true)
    t.teardown(() => hooks.poison(false))
    await using poisoned = await CausalLM.load(fixture('models', name))
    await using made = await CausalLM.create(plain.config, { tokenizer: plain.tokenizer })
    hooks.poison(false)
    t.deepEqual(await poisoned.logits(ids), await plain.logits(ids), name)
    t.true((await made.logits(ids)).every(Number.isFinite), name)
  }
})
