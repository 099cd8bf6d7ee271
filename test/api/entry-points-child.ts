// Calls every entry point with every wrong value in place of each argument and each option, and prints what answers with
// anything but a PosttrainError. Runs in a folder of its own, since some values are names of files.
import { join } from 'node:path'
import * as api from '../../lib/index.js'
import * as losses from '../../lib/losses/index.js'
import { fixture } from '../helpers/fixtures.js'
import { byteTokenizer } from '../helpers/tokenizers.js'
import { entryPoints } from './entry-points.js'
import { OwnError, VALUES } from './values.js'

const only = process.argv[2]
const failures: string[] = []
let calls = 0

const isOwn = (error: unknown): boolean =>
  error instanceof OwnError || (error instanceof TypeError && /revoked/.test(error.message))

/** Takes events and pieces until the end, a failure, or a few of them. */
async function settled(result: unknown): Promise<void> {
  const value: unknown = await result
  if (typeof value === 'object' && value !== null && Symbol.asyncIterator in value) {
    let taken = 0
    for await (const _ of value as AsyncIterable<unknown>) if (++taken >= 2) break
  } else if (typeof value === 'object' && value !== null && Symbol.iterator in value && 'next' in value) {
    for (const _ of value as Iterable<unknown>) break
  }
  if (value instanceof api.CausalLM || value instanceof api.RewardModel) {
    if (value !== model && value !== reward) await value.dispose()
  }
}

async function attempt(what: string, call: () => unknown): Promise<void> {
  if (process.env.POSTTRAIN_TEST_TRACE) console.error(what)
  calls++
  const start = performance.now()
  try {
    await settled(call())
  } catch (error) {
    const typed = error instanceof api.PosttrainError && error.code !== 'ERR_INTERNAL'
    if (!typed && !(error instanceof api.AbortError) && !isOwn(error) && !isOwn((error as Error)?.cause))
      failures.push(
        `${what}: ${String((error as Error)?.stack)
          .split('\n')
          .slice(0, 4)
          .join(' | ')}`,
      )
  }
  const took = performance.now() - start
  if (took > 3_000) failures.push(`${what}: took ${Math.round(took)} ms`)
}

const tokenizer = byteTokenizer()
const model = await api.CausalLM.load(fixture('models', 'llama'))
const reward = await api.RewardModel.fromCausalLM(model)
await model.save(join(process.cwd(), 'saved'))

const weights = join(process.cwd(), 'weights.safetensors')
await model.saveWeights(weights)

const table = entryPoints({ api, losses, model, reward, tokenizer, folder: process.cwd() })
/** What refuses its valid arguments too, so that the wrong ones prove little. */
const refused: string[] = []
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))
for (const { name, call, args, options } of table) {
  if (only !== undefined && !name.includes(only)) continue
  // An earlier call may have trained the model to nothing, or left an adapter in use.
  await model.setAdapter(null)
  await model.loadWeights(weights)
  try {
    await settled(call(...args))
  } catch (error) {
    refused.push(`${name}: ${String((error as Error)?.message)}`)
  }
  for (const at of args.keys()) {
    for (const [value, make] of Object.entries(VALUES)) {
      await attempt(`${name}, argument ${at} = ${value}`, () => call(...args.with(at, make())))
    }
  }
  for (const [field, valid] of Object.entries(options ?? {})) {
    void valid
    for (const [value, make] of Object.entries(VALUES)) {
      const given = { ...options, [field]: make() }
      await attempt(`${name}, ${field} = ${value}`, () => call(...args.slice(0, -1), given))
    }
  }
  for (const error of unhandled.splice(0))
    failures.push(`${name}: unhandled ${String((error as Error)?.stack)}`)
}
console.log(JSON.stringify({ calls, entryPoints: table.map(({ name }) => name), refused, failures }))
process.exit(0)
