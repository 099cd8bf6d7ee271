// Our side of `scripts/dev/bench/generate.mjs`: node generate-ours.mjs MODEL THREADS; answers JSON lines of work.
import { createInterface } from 'node:readline'
import { CausalLM, generate } from '../../../dist/lib/index.js'
import { Base } from '../../../dist/lib/models/base.js'
import { familyOf } from '../../../dist/lib/models/families/index.js'
import { readConfig, weightFiles } from '../../../dist/lib/models/folder.js'
import { readRole } from '../../../dist/lib/models/reading.js'
import { planWeights } from '../../../dist/lib/models/weights.js'

const [folder, threads] = process.argv.slice(2)
const place = { device: 'cpu', dtype: 'float32' }
const model = await CausalLM.load(folder, { ...place, threads: Number(threads) })

/** The weights into fresh memory, as CausalLM.load reads them beside the tokenizer. */
async function loadWeights() {
  const { core } = model.role
  const config = await readConfig(folder)
  const family = familyOf(config)
  const spec = family.decoder(config)
  const files = await planWeights(core, family, spec, await weightFiles(folder))
  const base = await Base.create(core, { family, spec, config, source: null }, place)
  return (await readRole(base, files, async () => null, {}))[0]
}

/** Rows that end at lengths of their own, which `generate` has no option for. */
async function ragged(rows) {
  const { core, handle } = model.role
  const none = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 }
  const session = await core.createSession(
    handle,
    rows.map(({ ids }) => Int32Array.from(ids)),
    {
      ...none,
      temperature: 0,
      seed: 0,
      batchSize: rows.length,
      stopIds: Int32Array.of(),
      maxNewTokens: Int32Array.from(rows, ({ room }) => room),
    },
  )
  const answers = rows.map(() => [])
  for (let ended = 0; ended < rows.length; ) {
    const step = await core.advance(session, 8)
    for (const [i, row] of step.rows.entries()) answers[row].push(step.ids[i])
    ended += step.finished.length
  }
  await core.dispose(session)
  return answers
}

async function answer({ kind, rows }) {
  const begun = performance.now()
  const seconds = () => (performance.now() - begun) / 1000
  if (kind === 'load') {
    const loaded = await loadWeights()
    const result = { seconds: seconds() }
    await loaded.dispose()
    return result
  }
  if (rows.every(({ room }) => room === rows[0].room)) {
    const prompts = rows.map(({ ids }) => Int32Array.from(ids))
    const options = { maxNewTokens: rows[0].room, stopIds: [], batchSize: rows.length }
    const found = await generate(model, prompts, options)
    return { seconds: seconds(), ids: found.map(({ tokenIds }) => [...tokenIds]) }
  }
  const ids = await ragged(rows)
  return { seconds: seconds(), ids }
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`)
