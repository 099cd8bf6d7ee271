import { parentPort, workerData } from 'node:worker_threads'
import { type EncodeRequest, type EncoderSpec, encoderOf } from './encode.js'

const encode = encoderOf(workerData as EncoderSpec)

/** Memory of the rows, which the message hands over. */
function buffersOf(results: ReturnType<typeof encode>): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>()
  for (const result of results) {
    if ('error' in result) continue
    if (result.text !== undefined) buffers.add(result.text.ids.buffer as ArrayBuffer)
    for (const row of result.rows)
      if (typeof row !== 'string')
        for (const { buffer } of [row.inputIds, row.labels]) buffers.add(buffer as ArrayBuffer)
  }
  return [...buffers]
}

parentPort?.on('message', ({ id, examples }: EncodeRequest) => {
  try {
    const results = encode(examples)
    parentPort?.postMessage({ id, results }, buffersOf(results))
  } catch (error) {
    parentPort?.postMessage({ id, error: error instanceof Error ? error.message : String(error) })
  }
})
