import { tokenizerSelection } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import { repairFolder } from '../files/atomic.js'
import { repositoryOf, repositoryUnlessPath } from '../files/hub/id.js'
import type { HubOptions, Selection } from '../files/hub/snapshot.js'
import { parseJsonObject } from '../files/read.js'

/** Location of a model or an adapter. */
export interface ModelSource {
  folder: string
  /** The name that adapters record for their base: the folder as the caller wrote it, or org/name. */
  name: string
  /** Revision on the Hub, if one was named. */
  revision: string | null
}

const WEIGHTS = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'
const ADAPTER = ['adapter_config.json', 'adapter_model.safetensors']

/** The weight files: a single file, or the index and its shards. */
async function weights(
  names: ReadonlySet<string>,
  read: (name: string) => Promise<string>,
): Promise<string[]> {
  if (names.has(WEIGHTS)) return [WEIGHTS]
  if (!names.has(INDEX)) {
    const other = [...names].find((name) => /^[^/]*\.(bin|gguf|pt|h5|msgpack)$/.test(name))
    throw new PosttrainError(
      'ERR_HUB',
      `it has no ${WEIGHTS}${other === undefined ? '' : `, only ${other}`}: convert its weights to safetensors`,
    )
  }
  const shards = [...new Set(Object.values(weightMap(await read(INDEX))))]
  const lacking = shards.find((name) => !names.has(name))
  if (lacking !== undefined)
    throw new PosttrainError('ERR_HUB', `its ${INDEX} names ${lacking}, which it does not have`)
  return [INDEX, ...shards]
}

function weightMap(text: string): Record<string, string> {
  const { weight_map: map } = parseJsonObject(text, INDEX)
  const files = typeof map === 'object' && map !== null ? Object.entries(map) : []
  const odd = files.find(([, file]) => typeof file !== 'string')
  if (odd !== undefined)
    throw new PosttrainError('ERR_INVALID_FILE', `${INDEX}: the file of ${odd[0]} must be a string`)
  return Object.fromEntries(files)
}

const modelSelection: Selection = {
  optional: tokenizerSelection.optional,
  choose: async (names, read) => {
    if (!names.has('config.json')) {
      const adapter = names.has(ADAPTER[0]!)
      throw new PosttrainError(
        'ERR_HUB',
        `it has no config.json${adapter ? ' because it is an adapter: load its base, then the adapter with loadAdapter or --adapter' : ''}`,
      )
    }
    const tokenizer = await tokenizerSelection.choose(names, read)
    return ['config.json', ...tokenizer, ...(await weights(names, read))]
  },
}

const adapterSelection: Selection = {
  optional: [],
  choose: async (names) => {
    const lacking = ADAPTER.find((name) => !names.has(name))
    if (lacking === undefined) return ADAPTER
    throw new PosttrainError(
      'ERR_HUB',
      `it has no ${lacking}: an adapter must be in PEFT's format, as safetensors`,
    )
  },
}

const SELECTIONS = {
  model: modelSelection,
  adapter: adapterSelection,
  /** A classifier, or an adapter with a head. */
  reward: {
    optional: modelSelection.optional,
    choose: (names, read) => (names.has(ADAPTER[0]!) ? adapterSelection : modelSelection).choose(names, read),
  },
  /** A model to train from scratch: everything but its weights. */
  blank: {
    optional: tokenizerSelection.optional,
    choose: async (names, read) => {
      if (!names.has('config.json')) throw new PosttrainError('ERR_HUB', 'it has no config.json')
      return ['config.json', ...(await tokenizerSelection.choose(names, read))]
    },
  },
  /** Only the configs, which determine the size of a model or an adapter. */
  shape: {
    optional: [],
    choose: async (names) => {
      const found = ['config.json', ADAPTER[0]!].filter((name) => names.has(name))
      if (found.length > 0) return found
      throw new PosttrainError('ERR_HUB', `it has neither config.json nor ${ADAPTER[0]}`)
    },
  },
} satisfies Record<string, Selection>

/** The folder of a path, or of `org/name[@revision]` on the Hub with the files that `kind` needs. */
export async function modelSource(
  model: string,
  kind: keyof typeof SELECTIONS,
  options: HubOptions = {},
): Promise<ModelSource> {
  // A path that a kill between two renames left empty would be taken for a name on the Hub.
  await repairFolder(model)
  const repository = await repositoryUnlessPath(model, options.revision)
  if (repository === null) return { folder: model, name: model, revision: null }
  const { hubSnapshot } = await import('../files/hub/snapshot.js')
  const { folder } = await hubSnapshot(repository, SELECTIONS[kind], options)
  const { id, revision } = repository
  return { folder, name: id, revision: revision === repositoryOf(id)!.revision ? null : revision }
}
