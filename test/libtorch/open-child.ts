// Opens the core in a process of its own, runs one job in it, and tells how that went in one line.
import { loadCore, loadState } from '../../lib/addon/load.js'

async function outcome(): Promise<unknown> {
  try {
    const core = await loadCore()
    const logits = Float32Array.of(0, 0)
    const options = { rows: 1, columns: 2, ignoreIndex: -100, gradient: false }
    const { loss } = await core.crossEntropy(logits, Int32Array.of(0), options)
    return { loss, info: await core.info(), state: loadState() }
  } catch (error) {
    const { name, code, message } = error as { name: string; code?: string; message: string }
    return { error: { name, code, message } }
  }
}

outcome().then((result) => process.stdout.write(`${JSON.stringify(result)}\n`))
