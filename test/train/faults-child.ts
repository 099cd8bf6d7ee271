// Trains in a folder and kills itself before or behind one file operation; says how many there were.
import { loadCore } from '../../lib/addon/load.js'
import { type Fault, FileFaults } from '../helpers/file-faults.js'

const [source, output, at, fault] = process.argv.slice(2) as [string, string, string, Fault]
const faults = new FileFaults()
faults.install(await loadCore())
faults.arm(output, Number(at), fault)
// Only now: what it imports from node:fs/promises is the watched one.
const { trainShort } = await import('./faults-training.js')
await trainShort(source, output)
process.stdout.write(`${faults.count}\n`)
