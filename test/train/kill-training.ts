import { AdamW } from '../../lib/optim/adamw.js'
import { tinyModel } from '../helpers/tiny-training.js'

/** A tiny model, its optimizer and a step whose batch depends on its number alone. */
export async function startTiny() {
  const model = await tinyModel(1)
  const optimizer = new AdamW(model, { learningRate: 3e-3 })
  const step = async (n: number): Promise<number> => {
    const inputIds = Int32Array.from({ length: 12 }, (_, i) => (i * i + n) % 7)
    await optimizer.zeroGrad()
    const { loss } = await model.backward(
      { inputIds, labels: inputIds, offsets: Int32Array.of(0, 12) },
      { kind: 'crossEntropy' },
    )
    await optimizer.step()
    return loss
  }
  return { model, optimizer, step }
}
