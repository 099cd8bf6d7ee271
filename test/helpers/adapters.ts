import { join } from 'node:path'
import { CausalLM, type LoadOptions } from '../../lib/index.js'
import { type Expected, fixture, packed, readJson, readTensors } from './fixtures.js'

/** What expected.json beside an adapter says; documents and labels stand beside its base. */
export type AdapterExpected = Omit<Expected, 'documents' | 'labels' | 'prompts' | 'continuations'> & {
  base: string
}

/** The linear layers of a block by the names of every family but gpt2. */
export const LINEAR = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']

/** An adapter of test/fixtures/adapters, its base's folder and documents, and PEFT's logits. */
export function openAdapter(name: string) {
  const folder = fixture('adapters', name)
  const expected = readJson<AdapterExpected>(join(folder, 'expected.json'))
  const base = fixture('models', expected.base)
  const { documents, labels } = readJson<Expected>(join(base, 'expected.json'))
  const tensors = readTensors(join(folder, 'expected.safetensors'))
  return {
    folder,
    base,
    expected,
    documents,
    batch: packed({ documents, labels }),
    tensors,
    truth: documents.flatMap((_, i) => [...tensors.get(`logits.${i}`)!.values]),
  }
}

/** The base of an adapter with that adapter in use, named `peft`. */
export async function adapted(name: string, options: LoadOptions = {}): Promise<CausalLM> {
  const { folder, base } = openAdapter(name)
  const model = await CausalLM.load(base, options)
  await model.loadAdapter('peft', folder)
  return model
}
