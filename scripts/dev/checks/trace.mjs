// Trains each recipe for some steps on a tiny model and prints, a line each, the metrics and the hashes of all weights.
//   node scripts/dev/checks/trace.mjs [--root DIR] [--steps 20] [--only NAME]
// --root: the built checkout whose dist/ is run (default: this one). same-bits.mjs compares two of them.
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const here = fileURLToPath(new URL('../../..', import.meta.url))
const { values } = parseArgs({
  options: {
    root: { type: 'string', default: here },
    steps: { type: 'string', default: '20' },
    only: { type: 'string' },
  },
})
const { root, only } = values
const steps = Number(values.steps)
const posttrain = await import(pathToFileURL(join(root, 'dist/lib/index.js')))
const { CausalLM, RewardModel, Tokenizer } = posttrain

const demo = join(here, 'scripts/demo')
const rows = (name, count) =>
  readFileSync(join(demo, name), 'utf8')
    .trim()
    .split('\n')
    .slice(0, count)
    .map((line) => JSON.parse(line))
const train = rows('train.jsonl', 120)
const texts = rows('corpus.jsonl', 120)
const rankings = rows('rankings.jsonl', 60)
const unpaired = rankings.flatMap(({ instruction, responses }) =>
  responses.slice(0, 2).map((completion, i) => ({ prompt: instruction, completion, label: i === 0 })),
)

const shape = {
  vocab_size: 512,
  hidden_size: 48,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
}
const CONFIGS = {
  llama: { model_type: 'llama', ...shape, rms_norm_eps: 1e-5, rope_theta: 10000, tie_word_embeddings: true },
  mistral: { model_type: 'mistral', ...shape, sliding_window: 8, tie_word_embeddings: false },
  qwen2: { model_type: 'qwen2', ...shape, tie_word_embeddings: true },
  qwen3: { model_type: 'qwen3', ...shape, head_dim: 16, tie_word_embeddings: false },
  gpt2: { model_type: 'gpt2', vocab_size: 512, n_embd: 48, n_layer: 2, n_head: 4, n_positions: 256 },
}
const tokenizer = await Tokenizer.load(demo)
const create = (family = 'llama', seed = 1) =>
  CausalLM.create(CONFIGS[family], { seed, tokenizer, threads: 1 })

/** Rewards that differ among responses and depend on nothing but them. */
const reward = (samples) =>
  samples.map(({ text }) => Math.min(8, text.length) / 8 - (text.match(/e/g)?.length ?? 0))
const supervised = { learningRate: 2e-3, batchSize: 4, maxSteps: steps, seed: 3 }
const policy = { learningRate: 1e-3, batchSize: 4, maxNewTokens: 8, iterations: steps, seed: 3, data: train }
const PAIR_LOSSES =
  'sigmoid sigmoidNorm hinge ipo robust cdpo bco sppo nca apoZero apoDown exo discopop simpo orpo'.split(' ')
const SMOOTHED = { robust: 0.1, cdpo: 0.1, exo: 1e-3 }

/** Name -> (options shared by all runs) -> run. Each is made with all weights in training and with LoRA. */
const RUNS = {
  pretrain: (given) => posttrain.pretrain({ ...supervised, data: texts, batchSize: 8, ...given }),
  sft: (given) => posttrain.sft({ ...supervised, data: train, validation: { fraction: 0.1 }, ...given }),
  'sft accumulated': (given) =>
    posttrain.sft({
      ...supervised,
      data: train,
      gradientAccumulation: 3,
      activationCheckpointing: true,
      ...given,
    }),
  reward: (given) => posttrain.reward({ ...supervised, data: rankings, center: 0.01, ...given }),
  ...Object.fromEntries(
    PAIR_LOSSES.map((loss) => [
      `dpo ${loss}`,
      (given) =>
        posttrain.dpo({
          ...supervised,
          data: rankings,
          loss,
          beta: 0.2,
          ...(SMOOTHED[loss] && { labelSmoothing: SMOOTHED[loss] }),
          ...(loss === 'sigmoid' && { sftCoef: 0.1, validation: { fraction: 0.1 } }),
          ...given,
        }),
    ]),
  ),
  kto: (given) => posttrain.dpo({ ...supervised, data: unpaired, loss: 'kto', ...given }),
  ppo: (given) => posttrain.ppo({ ...policy, reward, miniBatches: 2, ...given }),
  'ppo kl in loss': (given) =>
    posttrain.ppo({
      ...policy,
      reward,
      kl: { in: 'loss', estimator: 'full' },
      epochs: 2,
      whitenRewards: true,
      ...given,
    }),
  grpo: (given) => posttrain.grpo({ ...policy, reward, groupSize: 4, klCoef: 0.05, epochs: 2, ...given }),
  rloo: (given) => posttrain.rloo({ ...policy, reward, groupSize: 4, ...given }),
}

/** Fields of events that are times, places or sentences for people. */
const LEFT_OUT = new Set(['seconds', 'tokensPerSecond', 'path', 'output', 'model', 'message'])
const numbersOf = (event) => Object.fromEntries(Object.entries(event).filter(([name]) => !LEFT_OUT.has(name)))
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16)

/** Hashes of every tensor file that a run left: checkpoints with moments, the model or adapter, the critic. */
function files(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.safetensors'))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort()
    .map((path) => `${relative(folder, path)} ${hash(readFileSync(path))}`)
}

async function trace(name, start, model, given) {
  const output = mkdtempSync(join(tmpdir(), 'posttrain-trace-'))
  try {
    const events = []
    for await (const event of start({ model, output: join(output, 'run'), ...given }))
      events.push(numbersOf(event))
    const parameters = createHash('sha256')
    for (const parameter of await model.parameters()) {
      const { values } = await model.getParameter(parameter.name)
      parameters.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    }
    console.log(
      JSON.stringify({
        name,
        losses: events.filter(({ type }) => type === 'step').map(({ loss }) => loss),
        events: hash(JSON.stringify(events.filter(({ type }) => type !== 'start'))),
        weights: parameters.digest('hex').slice(0, 16),
        files: files(output),
      }),
    )
  } finally {
    await model.dispose()
    rmSync(output, { recursive: true, force: true })
  }
}

const lora = { rank: 4 }
for (const [name, start] of Object.entries(RUNS)) {
  if (only !== undefined && only !== name) continue
  await trace(name, start, await create(), {})
  await trace(`${name}, LoRA`, start, await create(), { lora })
}
for (const family of Object.keys(CONFIGS)) {
  if (only !== undefined && only !== family) continue
  await trace(`sft ${family}`, RUNS.sft, await create(family), {})
  await trace(`sft ${family}, LoRA`, RUNS.sft, await create(family), { lora: { rank: 4, dropout: 0.1 } })
}
if (only === undefined || only === 'reward model') {
  const base = await create('qwen3')
  const scored = await RewardModel.fromCausalLM(base, { seed: 5 })
  await trace('reward model', RUNS.reward, scored, {})
  await base.dispose()
}
