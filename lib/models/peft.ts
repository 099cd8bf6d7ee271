import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { WeightMapEntry } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import { LIMITS, readTextIfThere } from '../files/read.js'
import { adapterEntries, PREFIX } from './adapter-entries.js'
import { fullMatch, LM_HEAD } from './adapter-modules.js'
import type { Base } from './base.js'
import { modelSource } from './hub.js'
import type { AdapterConfig } from './lora.js'
import { readPeftConfig } from './peft-config.js'
import { ADAPTER_WEIGHTS, AdapterFile, SCORE_ENTRY } from './peft-file.js'

/** An adapter in a folder. */
export interface PeftAdapter {
  folder: string
  config: AdapterConfig
  /** Whether it has a scalar head. */
  scored: boolean
  /** The template that it was trained with, if the folder has it. */
  chatTemplate: string | null
  path: string
  entries: WeightMapEntry[]
}

/**
 * Reads the config and header of an adapter from a folder or the Hub; its values are not loaded yet. Throws
 * ERR_INVALID_FILE if it does not fit the base.
 */
export async function openPeft(from: string, base: Base, options: HubOptions): Promise<PeftAdapter> {
  const { core } = base
  const { folder } = await modelSource(from, 'adapter', options)
  const written = await readPeftConfig(folder)
  const path = join(folder, ADAPTER_WEIGHTS)
  await refuseOtherForms(folder)
  const { tensors } = await call(core, () => core.readHeader(path))
  const file = new AdapterFile(folder, written, tensors, base)
  const { config, scored, unsaved } = file.read()
  // What the file repeats of the base unchanged is not held a second time.
  const frozen = config.copies.filter(({ trainable }) => !trainable)
  const [first] = frozen
  if (first !== undefined) {
    const entries = frozen.map(({ parameters, inFile, rows, transpose }) => ({
      name: file.nameInFile(`${PREFIX}${inFile[0]}`),
      parameter: parameters[0]!,
      ...(rows && { rows }),
      ...(transpose && { transpose }),
    }))
    const same = await call(core, (cancel) => core.sameTensors(base.handle, path, entries, cancel))
    config.copies = config.copies.filter((copy) => copy.trainable || !same[frozen.indexOf(copy)])
  }
  const chatTemplate = await readTextIfThere(join(folder, 'chat_template.jinja'), LIMITS.template)
  const saved = { ...config, copies: config.copies.filter(({ name }) => !unsaved.has(name)) }
  const entries = [...adapterEntries(saved), ...(scored ? [SCORE_ENTRY] : [])].map((entry) => ({
    ...entry,
    name: file.nameInFile(entry.name),
  }))
  return { folder, config, scored, chatTemplate, path, entries }
}

/** Throws ERR_INVALID_FILE for a folder without adapter_model.safetensors, with what it has instead. */
async function refuseOtherForms(folder: string): Promise<void> {
  const names: string[] = await readdir(folder).catch(() => [])
  if (names.includes(ADAPTER_WEIGHTS)) return
  const other = names.find((name) => /^adapter_model[.-].*(bin|pt|safetensors|index\.json)$/.test(name))
  const why = other?.endsWith('.bin')
    ? `it has ${other}, a pickle, which posttrain does not read: load it in PEFT and save it again, which writes safetensors`
    : `it has ${other}, and an adapter in several files is not read, in PEFT neither`
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    `${folder} has no ${ADAPTER_WEIGHTS}${other === undefined ? '' : `: ${why}`}`,
  )
}

/**
 * Tensors in an adapter's file, the scalar head included. As in PEFT the weights under updates of the embedding and the
 * output projection stand in the file with them, where `target_modules` names one of the two.
 */
export function peftEntries(config: AdapterConfig, scored: boolean): WeightMapEntry[] {
  const own = adapterEntries(config)
  const present = new Set(own.map(({ name }) => name))
  const repeated = namesEmbeddings(config) ? config.modules : []
  return [
    ...own,
    ...repeated.flatMap(({ name, linear }) => {
      const key = `${PREFIX}${name}.base_layer.weight`
      if ((linear !== 'embed' && linear !== 'head') || present.has(key)) return []
      return [{ name: key, parameter: `${linear}.weight` }]
    }),
    ...(scored ? [SCORE_ENTRY] : []),
  ]
}

/** PEFT's test whether embeddings are targets, which goes by these two names. */
function namesEmbeddings({ saved, modules }: AdapterConfig): boolean {
  const names = ['embed_tokens', LM_HEAD]
  const targets = (saved.target_modules ?? []) as string | string[]
  if (typeof targets !== 'string') return names.some((name) => targets.includes(name))
  const paths = modules.map(({ name }) => name).filter((name) => names.includes(name.split('.').at(-1)!))
  return paths.some((path) => fullMatch(targets, path, 'target_modules'))
}
