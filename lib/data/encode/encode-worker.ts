import { parentPort, workerData } from 'node:worker_threads'
import { type EncodeRequest, type EncoderSpec, encoderOf } from './encode.js'

const encode = encoderOf(workerData as EncoderSpec)

parentPort?.on('message', ({ id, examples }: EncodeRequest) => {
  try {
    parentPort?.postMessage({ id, results: encode(examples) })
  } catch (error) {
    parentPort?.postMessage({ id, error: error instanceof Error ? error.message : String(error) })
  }
})
