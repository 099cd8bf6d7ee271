// The child of verify.ts: opens a libtorch that may end the process, and tells the result in one marked line.
import { createRequire } from 'node:module'

const [stub, libtorch, cuda] = process.argv.slice(2)

function result(): unknown {
  try {
    return createRequire(import.meta.url)(stub!).probe({ libtorch, cuda })
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return { code: code ?? 'ERR_LIBTORCH_LOAD', message }
  }
}

process.stdout.write(`posttrain-probe result ${JSON.stringify(result())}\n`)
