import { cpSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { CausalLM, PosttrainError } from '../../lib/index.js'
import type { LoadOptions } from '../../lib/models/base.js'
import { fixture, readJson } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'
import { tensorBytes } from '../helpers/tensor-bytes.js'

type Json = Record<string, unknown>
type Code = 'ERR_INVALID_FILE' | 'ERR_UNSUPPORTED_MODEL'

function copied(t: ExecutionContext, name: string): string {
  const folder = join(newFolder(t), 'model')
  cpSync(fixture('models', name), folder, { recursive: true })
  return folder
}

/** Changes a JSON file in place. */
const edit = (file: string, change: (json: Json) => void) => (folder: string) => {
  const path = join(folder, file)
  const json = readJson<Json>(path)
  change(json)
  writeFileSync(path, JSON.stringify(json))
}
const config = (fields: Json) => edit('config.json', (json) => Object.assign(json, fields))
const without = (file: string) => (folder: string) => rmSync(join(folder, file))
const text = (file: string, content: string) => (folder: string) => writeFileSync(join(folder, file), content)
const inModel = (change: (model: Json) => void) =>
  edit('tokenizer.json', (json) => change(json.model as Json))
const SINGLE = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'
const SHARD = 'model-00002-of-00003.safetensors'

/** The single file again with its header changed; data and offsets stay as they are. */
const header = (change: (tensors: Record<string, Json>) => void) => (folder: string) => {
  const path = join(folder, SINGLE)
  const bytes = readFileSync(path)
  const end = 8 + Number(bytes.readBigUInt64LE(0))
  const tensors = JSON.parse(bytes.subarray(8, end).toString()) as Record<string, Json>
  change(tensors)
  writeFileSync(path, Buffer.concat([tensorBytes(tensors), bytes.subarray(end)]))
}
const index = (change: (map: Record<string, unknown>) => void) =>
  edit(INDEX, (json) => change(json.weight_map as Json))
const shardNamed = (name: unknown) =>
  index((map) => {
    for (const [tensor, file] of Object.entries(map)) if (file === SHARD) map[tensor] = name
  })

async function refused(
  t: ExecutionContext,
  folder: string,
  code: string,
  says: RegExp,
  options: LoadOptions = {},
) {
  const error = await t.throwsAsync(CausalLM.load(folder, options), { code, message: says })
  t.true(error instanceof PosttrainError)
  // One sentence, and the process goes on.
  t.notRegex(error!.message, /\n/)
  const model = await CausalLM.load(fixture('models/llama'))
  t.is(model.vocabSize, 67)
  await model.dispose()
}

const invalid: [what: string, model: string, spoil: (folder: string) => void, says: RegExp][] = [
  ['no config.json', 'llama', without('config.json'), /model\/config\.json does not exist/],
  ['a config.json that is not JSON', 'llama', text('config.json', '{"a":'), /config\.json is not valid JSON/],
  ['an empty config.json', 'llama', text('config.json', ''), /config\.json is not valid JSON/],
  ['a config.json that is a list', 'llama', text('config.json', '[]'), /config\.json must hold an object/],
  [
    'a broken generation_config.json',
    'llama',
    text('generation_config.json', '{'),
    /generation_config\.json is not/,
  ],
  ['no tokenizer.json', 'llama', without('tokenizer.json'), /model has no tokenizer\.json/],
  [
    'a torn tokenizer.json',
    'llama',
    (f) => truncateSync(join(f, 'tokenizer.json'), 900),
    /tokenizer\.json is not valid/,
  ],
  [
    'a broken tokenizer_config.json',
    'llama',
    text('tokenizer_config.json', '{'),
    /tokenizer_config\.json is not valid/,
  ],
  [
    'a tokenizer without a model',
    'llama',
    edit('tokenizer.json', (j) => delete j.model),
    /tokenizer\.json has no model/,
  ],
  [
    'a tokenizer without a vocabulary',
    'llama',
    inModel((m) => delete m.vocab),
    /tokenizer\.json: model\.vocab is missing/,
  ],
  [
    'a vocabulary with an id of -1',
    'llama',
    inModel((m) => Object.assign(m.vocab as Json, { zz: -1 })),
    /tokenizer\.json: model\.vocab gives the token "zz"/,
  ],
  [
    'an added token without an id',
    'llama',
    edit('tokenizer.json', (j) => (j.added_tokens = [{ content: 'x' }])),
    /tokenizer\.json: each of added_tokens/,
  ],
  ['no weights', 'llama', without(SINGLE), /neither model\.safetensors nor model\.safetensors\.index\.json/],
  [
    'pytorch_model.bin alone',
    'llama',
    (f) => renameSync(join(f, SINGLE), join(f, 'pytorch_model.bin')),
    /pytorch_model\.bin and no model\.safetensors/,
  ],
  [
    'a torn weight file',
    'llama',
    (f) => truncateSync(join(f, SINGLE), 30_000),
    /model\.safetensors: .*truncated/,
  ],
  [
    'an empty weight file',
    'llama',
    (f) => truncateSync(join(f, SINGLE), 0),
    /model\.safetensors is too short/,
  ],
  [
    'a pickle under a wrong name',
    'llama',
    text(SINGLE, 'PK\x03\x04'),
    /model\.safetensors is a PyTorch pickle/,
  ],
  [
    'a missing tensor',
    'llama',
    header((h) => renamed(h, 'model.norm.weight', 'rotary_emb.inv_freq')),
    /no model\.norm\.weight/,
  ],
  [
    'a tensor of another shape',
    'llama',
    header((h) => (h['model.norm.weight']!.shape = [2, 12])),
    /model\.norm\.weight has shape \[2, 12\]/,
  ],
  [
    'weights of whole numbers',
    'llama',
    header((h) => (h['model.norm.weight']!.dtype = 'I32')),
    /model\.norm\.weight has dtype I32/,
  ],
  [
    'a config with more layers than the files',
    'llama',
    config({ num_hidden_layers: 3 }),
    /no model\.layers\.2\..*config\.json/,
  ],
  ['a config wider than the files', 'llama', config({ hidden_size: 32 }), /has shape .*the config requires/],
  [
    'a vocab_size far above the files',
    'llama',
    config({ vocab_size: 2 ** 31 }),
    /embed_tokens\.weight has shape \[67, 24\], the config requires \[2147483648, 24\]/,
  ],
  [
    'an intermediate_size far above the files',
    'llama',
    config({ intermediate_size: 2 ** 30 }),
    /mlp\.gate_proj\.weight has shape/,
  ],
  ['a shard that is missing', 'mistral', without(SHARD), /model-00002-of-00003\.safetensors does not exist/],
  [
    'a shard twice under two names',
    'mistral',
    (f) => {
      cpSync(join(f, SHARD), join(f, 'more.safetensors'))
      index((m) => (m.x = 'more.safetensors'))(f)
    },
    /is in both .* and /,
  ],
  ['an index that is not JSON', 'mistral', text(INDEX, 'x'), /index\.json is not valid JSON/],
  [
    'an index without a map',
    'mistral',
    edit(INDEX, (json) => delete json.weight_map),
    /index\.json has no weight_map/,
  ],
  [
    'an index that names no file',
    'mistral',
    shardNamed(2),
    /index\.json: the file of model\.\S+ must be a string/,
  ],
  [
    'an index that leads up',
    'mistral',
    shardNamed('../outside.safetensors'),
    /"\.\.\/outside\.safetensors" points outside/,
  ],
  ['an index that leads up half-way', 'mistral', shardNamed('a/../../outside.safetensors'), /points outside/],
  ['an index with an absolute name', 'mistral', shardNamed('/etc/passwd'), /"\/etc\/passwd" points outside/],
  ['an index with an empty name', 'mistral', shardNamed(''), /points outside/],
  ['an index with a zero byte in a name', 'mistral', shardNamed('a\0b'), /points outside/],
  ['a shard that is a folder', 'mistral', shardNamed('.'), /"\."|is not a file/],
]

function renamed(tensors: Record<string, Json>, from: string, to: string): void {
  tensors[to] = tensors[from]!
  delete tensors[from]
}

const unsupported: typeof invalid = [
  [
    'no vocab_size',
    'llama',
    edit('config.json', (json) => delete json.vocab_size),
    /vocab_size must be .*missing/,
  ],
  [
    'hidden_size -1',
    'llama',
    config({ hidden_size: -1 }),
    /hidden_size must be a whole number of at least 1, got -1/,
  ],
  ['hidden_size "abc"', 'llama', config({ hidden_size: 'abc' }), /hidden_size must be .*got "abc"/],
  ['hidden_size 2.5', 'llama', config({ hidden_size: 2.5 }), /hidden_size must be .*got 2\.5/],
  ['num_hidden_layers 0', 'llama', config({ num_hidden_layers: 0 }), /num_hidden_layers must be/],
  [
    'num_hidden_layers 2 ** 31',
    'llama',
    config({ num_hidden_layers: 2 ** 31 }),
    /num_hidden_layers must be .*got 2147483648/,
  ],
  [
    '5 heads for 2 key heads',
    'llama',
    config({ num_attention_heads: 5 }),
    /num_attention_heads 5 is not a multiple of num_key_value_heads 2/,
  ],
  [
    'a width that the heads do not divide',
    'llama',
    config({ head_dim: null, hidden_size: 26 }),
    /hidden_size 26 is not a multiple of num_attention_heads 4/,
  ],
  ['an odd head_dim', 'llama', config({ head_dim: 7 }), /head_dim must be even/],
  ['rms_norm_eps null as text', 'llama', config({ rms_norm_eps: 'small' }), /rms_norm_eps must be/],
  [
    'dynamic rope',
    'llama',
    config({ rope_parameters: { rope_type: 'dynamic', rope_theta: 1e4, factor: 2 } }),
    /rope_type "dynamic"/,
  ],
  [
    'dynamic rope in the older form',
    'llama',
    config({ rope_parameters: null, rope_scaling: { type: 'dynamic', factor: 2 } }),
    /rope_type "dynamic"/,
  ],
  [
    'rope without its factor',
    'llama',
    config({ rope_parameters: { rope_type: 'linear', rope_theta: 1e4 } }),
    /factor must be/,
  ],
  [
    'quantized weights',
    'llama',
    config({ quantization_config: { bits: 4 } }),
    /the weights are quantized \(quant_method undefined\), and only NF4 of bitsandbytes is read/,
  ],
  [
    'weights quantized by GPTQ',
    'llama',
    config({ quantization_config: { quant_method: 'gptq', bits: 4 } }),
    /the weights are quantized \(quant_method "gptq"\)/,
  ],
  [
    'weights in FP4',
    'llama',
    config({ quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true } }),
    /the weights are quantized \(bnb_4bit_quant_type "fp4"\)/,
  ],
  ['soft caps', 'llama', config({ final_logit_softcapping: 30 }), /final_logit_softcapping = 30/],
  ['hidden_act mish', 'llama', config({ hidden_act: 'mish' }), /hidden_act must be one of .*got "mish"/],
  ['hidden_act constructor', 'llama', config({ hidden_act: 'constructor' }), /hidden_act must be one of/],
  [
    'attention_bias "yes"',
    'llama',
    config({ attention_bias: 'yes' }),
    /attention_bias must be true or false/,
  ],
  ['model_type bert', 'llama', config({ model_type: 'bert' }), /model_type "bert" is not supported/],
  ['no model_type', 'llama', config({ model_type: null }), /model_type null is not supported/],
  ['sliding_window 0', 'mistral', config({ sliding_window: 0 }), /sliding_window must be/],
  ['n_head that does not divide', 'gpt2', config({ n_head: 7 }), /n_embd \d+ is not a multiple of n_head 7/],
  [
    'scaled attention by layer',
    'gpt2',
    config({ scale_attn_by_inverse_layer_idx: true }),
    /scale_attn_by_inverse_layer_idx/,
  ],
  [
    'a tokenizer of an unknown kind',
    'llama',
    inModel((m) => (m.type = 'Magic')),
    /model\.type "Magic" is not supported/,
  ],
  [
    'a tokenizer larger than the model',
    'llama',
    inModel((m) => Object.assign(m.vocab as Json, { zz: 67 })),
    /tokenizer has 68 tokens, the model's vocab_size is 67/,
  ],
  [
    'a tensor that nothing explains',
    'llama',
    header((h) => (h['model.layers.0.extra.weight'] = { dtype: 'F32', shape: [0], data_offsets: [0, 0] })),
    /does not explain|do not explain|model\.layers\.0\.extra\.weight/,
  ],
]

for (const [code, cases] of [
  ['ERR_INVALID_FILE', invalid],
  ['ERR_UNSUPPORTED_MODEL', unsupported],
] as [Code, typeof invalid][]) {
  for (const [what, model, spoil, says] of cases) {
    test(`${model} with ${what} is ${code}`, async (t) => {
      const folder = copied(t, model)
      spoil(folder)
      await refused(t, folder, code, says)
    })
  }
}

test('no folder, and a file in place of one', async (t) => {
  const folder = copied(t, 'llama')
  await refused(t, join(folder, 'none'), 'ERR_INVALID_FILE', /none does not exist/)
  await refused(t, join(folder, 'config.json'), 'ERR_INVALID_FILE', /config\.json is not a folder/)
})

test('unavailable devices and dtypes are refused', async (t) => {
  const folder = fixture('models/llama')
  await refused(t, folder, 'ERR_INVALID_ARGUMENT', /bfloat16 is refused on the CPU/, {
    device: 'cpu',
    dtype: 'bfloat16',
  })
  const model = await CausalLM.load(folder)
  const there = model.device !== 'cpu'
  await model.dispose()
  if (there) t.log('skipped: there is a CUDA device')
  else {
    await refused(t, folder, 'ERR_INVALID_ARGUMENT', /device cuda is not available/, { device: 'cuda' })
    await refused(t, folder, 'ERR_INVALID_ARGUMENT', /device cuda:1 is not available/, { device: 'cuda:1' })
  }
  const wrong = { device: 'tpu', dtype: 'int4' } as unknown as LoadOptions
  await refused(t, folder, 'ERR_INVALID_ARGUMENT', /device must be .* got "tpu"/, wrong)
  await refused(t, folder, 'ERR_INVALID_ARGUMENT', /int4/, { ...wrong, device: 'cpu' })
})
