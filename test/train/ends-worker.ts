// What the workers of ends-child.ts do.
import { parentPort, workerData } from 'node:worker_threads'
import { stream } from '../../lib/generate/generate.js'
import { tinyModel } from '../helpers/tiny-training.js'
import { train } from './ends-training.js'

const { program, seed } = workerData as { program: string; seed: number }
const post = (message: unknown) => parentPort!.postMessage(message)
/** A program that is told when the training is under way. */
const forever = (onReady: () => void = () => undefined) =>
  train(1_000_000, {
    onStep: (step) => {
      if (step !== 2) return
      post('ready')
      setTimeout(onReady, 20)
    },
  })

switch (program) {
  case 'losses':
    post(await train(4, { seed }))
    break
  case 'forever':
    await forever()
    break
  case 'exit':
    await forever(() => process.exit(3))
    break
  case 'throw':
    await forever(() => {
      throw new Error('uncaught in the worker')
    })
    break
  case 'generate': {
    const model = await tinyModel(seed)
    for (;;) {
      for await (const _ of stream(model, ['1+1=?'], { maxNewTokens: 200, stopIds: [] })) post('ready')
    }
  }
}
