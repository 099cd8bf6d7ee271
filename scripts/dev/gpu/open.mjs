// Opens the core and does one small training step on a device: what fails here fails everything else.

import { loadCore } from '../../../dist/lib/addon/load.js'
import { AdamW, CausalLM, generate } from '../../../dist/lib/index.js'
import { tinyConfig } from '../../../dist/test/helpers/tiny-training.js'
import { byteTokenizer } from '../../../dist/test/helpers/tokenizers.js'

const device = process.argv[2]
const core = await loadCore()
console.log(JSON.stringify(await core.info(), null, 2))
for (const options of [{ dtype: 'float32' }, {}, { quantize: 'nf4' }]) {
  const model = await CausalLM.create(tinyConfig, { device, tokenizer: byteTokenizer(), ...options })
  if (options.quantize) await model.addAdapter('a', { rank: 4 })
  const ids = Int32Array.from({ length: 48 }, (_, i) => (i * 7) % 256)
  const batch = { inputIds: ids, labels: ids, offsets: Int32Array.of(0, 11, 48) }
  const optimizer = new AdamW(model, { learningRate: 1e-3 })
  const losses = []
  for (let step = 0; step < 3; step++) {
    await optimizer.zeroGrad()
    losses.push((await model.backward(batch, { kind: 'crossEntropy' })).loss)
    await optimizer.step({ maxGradNorm: 1 })
  }
  const [row] = await generate(model, [ids.slice(0, 5)], { maxNewTokens: 8 })
  console.log(model.dtype, options.quantize ?? '', losses, [...row.tokenIds])
  if (!losses.every(Number.isFinite) || losses[2] >= losses[0]) throw new Error('the loss did not fall')
  await optimizer.dispose()
  await model.dispose()
}
// The models above have loaded our kernels, or said why there are none.
const { devices, architectures } = (await core.info()).cuda
const kernels = devices.map(({ kernels, kernelsProblem }) => kernels ?? kernelsProblem)
console.log(`KERNELS ${JSON.stringify({ built: architectures, kernels })}`)
