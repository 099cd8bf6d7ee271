// Saves a tiny model to the path given and prints the error.
import { loadCore } from '../../lib/addon/load.js'
import { familyOf } from '../../lib/models/families/index.js'
import { tinyConfig } from '../helpers/tiny-training.js'

const core = await loadCore()
const family = familyOf(tinyConfig)
const spec = family.decoder(tinyConfig)
const base = await core.createBase(spec, { device: 'cpu', dtype: 'float32' })
const role = await core.createRole(base, {})
const error = await core
  .saveTensors(role, process.argv[2]!, family.weights(spec), { dtype: 'float32', metadata: {} })
  .catch(({ code, message }) => ({ code, message }))
process.stdout.write(JSON.stringify(error ?? {}))
await core.dispose(role)
await core.dispose(base)
