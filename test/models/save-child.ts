// Saves another tiny model over the folder given and prints the error.
import { tinyModel } from '../helpers/tiny-training.js'

const model = await tinyModel(2)
const error = await model
  .save(process.argv[2]!, { overwrite: true })
  .catch(({ code, message }) => ({ code, message }))
process.stdout.write(JSON.stringify(error ?? {}))
await model.dispose()
