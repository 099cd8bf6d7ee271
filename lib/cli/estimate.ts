import { stat } from 'node:fs/promises'
import { availableParallelism, freemem } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import type * as z from 'zod'
import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { PosttrainError } from '../errors.js'
import { estimateMemory, largestBatch, type MemoryEstimate } from '../estimate/estimate.js'
import type { ReadingOptions } from '../estimate/lengths.js'
import type { Probe } from '../estimate/probe.js'
import {
  type CountedOptions,
  type ModelShape,
  promptLimit,
  type RewardShape,
  type RunShape,
  rowLimit,
} from '../estimate/runs.js'
import { autoDtype } from '../models/base.js'
import { familyOf } from '../models/families/index.js'
import { readConfig } from '../models/folder.js'
import { modelSource } from '../models/hub.js'
import type { AdapterConfig } from '../models/lora.js'
import { readPeftConfig } from '../models/peft-config.js'
import { shapeOfPeft } from '../models/peft-shape.js'
import { type Quantization, quantizationIn } from '../models/quantization.js'
import { describe, type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { RECIPE_NAMES, RECIPES, type RecipeName } from '../train/recipes.js'
import { drawEstimate, type EstimateReport } from './estimate-report.js'
import { addFlags, readFlags } from './flags.js'
import { commandOptions, machineFields, print } from './train.js'

/** Resident memory of a process that has opened libtorch and no model, measured (scripts/dev/checks/memory.mjs). */
const PROCESS_BYTES = 0.16e9

const UNITS: Record<string, number> = {
  '': 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

/** Parses a size such as 24GB; other text is passed on, and the schema refuses it. */
function bytesOf(text: string): unknown {
  const [, number, unit] = /^([\d.]+)\s*([a-z]*)$/i.exec(text.trim()) ?? []
  const bytes = Number(number) * (UNITS[unit?.toLowerCase() ?? ''] ?? Number.NaN)
  return Number.isFinite(bytes) ? bytes : text
}

const estimateFields = lazily((z) => ({
  memory: option(
    z
      .custom<number>((value) => typeof value === 'number' && value > 0, 'must be a size such as 24GB')
      .optional(),
    'Available memory, such as 24GB (default: free memory of this machine)',
    { placeholder: 'SIZE', read: bytesOf },
  ),
  probe: option(z.boolean().default(false), 'Time a few real steps on synthetic rows of these sizes'),
}))

/** The flags of a recipe, with data and rewards optional. */
export function estimateOptions(recipe: RecipeName): OptionSet {
  const set = commandOptions(RECIPES[recipe].options, estimateFields)
  const shape = () =>
    Object.entries(set.schema().shape).map(([name, field]) => {
      if (name !== 'data' && name !== 'reward') return [name, field]
      const { text, flag } = describe(field as z.ZodType)!
      return [name, option((field as z.ZodType).optional(), text, flag)]
    })
  return { ...set, schema: lazily((z) => z.object(Object.fromEntries(shape()))) }
}

interface Options extends CountedOptions, Partial<ReadingOptions> {
  model: string
  adapter?: string
  device: string
  dtype: 'auto' | 'float32' | 'bfloat16'
  quantize?: 'nf4'
  threads?: number
  memory?: number
  probe: boolean
  reward?: readonly string[]
  json: boolean
}

async function modelShape(model: string, quantize: Quantization): Promise<ModelShape> {
  const config = await readConfig((await modelSource(model, 'shape')).folder)
  const family = familyOf(config)
  const scored =
    Array.isArray(config.architectures) && /ForSequenceClassification$/.test(config.architectures[0])
  const spec = family.decoder(config)
  return {
    family,
    spec: scored ? { ...spec, tied: true } : spec,
    coded: (quantize ?? quantizationIn(config)) !== null,
    contextLength: family.contextLength(config),
  }
}

async function adapterShape(adapter: string, model: ModelShape): Promise<AdapterConfig> {
  const { folder } = await modelSource(adapter, 'shape')
  return shapeOfPeft(await readPeftConfig(folder), model)
}

async function rewardShape(text: string, model: ModelShape, quantize: Quantization): Promise<RewardShape> {
  const [, path] = /^(.*?)(?:=(-?[\d.]+))?$/.exec(text)!
  if (/\.[cm]?[jt]s$/.test(path!)) return { kind: 'function' }
  const { folder } = await modelSource(path!, 'shape')
  const adapted = await stat(join(folder, 'adapter_config.json')).catch(() => null)
  if (adapted !== null) return { kind: 'adapter', config: await adapterShape(folder, model) }
  return { kind: 'model', model: await modelShape(path!, quantize) }
}

/** The device of the run and its free memory; null if unknown. */
async function machineOf({ device, dtype, threads, memory }: Options) {
  const info = async () => {
    const core = await loadCore()
    return await call(core, () => core.info())
  }
  // A run may be for another machine, whose devices nothing tells.
  const asks = dtype === 'auto' || memory === undefined
  const here =
    device === 'auto' ? await info() : device === 'cpu' || !asks ? null : await info().catch(() => null)
  const devices = here?.cuda.devices ?? []
  const kind = device === 'auto' ? (devices.length > 0 ? 'cuda' : 'cpu') : device.replace(/:\d+$/, '')
  const at = Number(/:(\d+)$/.exec(device)?.[1] ?? 0)
  const machine = {
    device: kind as 'cpu' | 'cuda',
    dtype: dtype === 'auto' ? autoDtype(kind === 'cpu' ? kind : `cuda:${at}`, devices) : dtype,
    threads: threads ?? availableParallelism(),
  }
  if (kind === 'cpu' && machine.dtype === 'bfloat16') {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      '--dtype bfloat16 is not supported on the CPU: add --device cuda',
    )
  }
  if (kind === 'cpu') return { machine, memory: (memory ?? freemem()) - PROCESS_BYTES }
  if (memory !== undefined) return { machine, memory }
  return { machine, memory: devices[at]?.totalBytes ?? null }
}

async function estimate(
  recipe: RecipeName,
  options: Options,
  given: Record<string, unknown>,
): Promise<EstimateReport> {
  const quantize = options.quantize ?? null
  const model = await modelShape(options.model, quantize)
  const { machine, memory } = await machineOf(options)
  const run: RunShape = {
    recipe,
    model,
    adapter: options.adapter === undefined ? null : await adapterShape(options.adapter, model),
    rewards: await Promise.all((options.reward ?? []).map((text) => rewardShape(text, model, quantize))),
    options,
    machine,
  }
  if (options.data !== undefined) {
    const { lengthsOf } = await import('../estimate/lengths.js')
    const limit = RECIPES[recipe].rollout ? promptLimit(run) : rowLimit(run)
    run.data = await lengthsOf(recipe, options.model, { ...options, data: options.data }, limit)
  }
  const counted = estimateMemory(run)
  return {
    type: 'estimate',
    recipe,
    device: machine.device,
    dtype: machine.dtype,
    ...counted,
    memory,
    fits: memory === null ? null : counted.peak <= memory,
    largestBatch: memory === null ? null : largestBatch(run, memory),
    probe: options.probe ? await runProbe(recipe, options, given, counted) : null,
  }
}

async function runProbe(
  recipe: RecipeName,
  options: Options,
  given: Record<string, unknown>,
  { sizes }: MemoryEstimate,
): Promise<Probe> {
  const { openRewards, openTrainable, openModel } = await import('./open-model.js')
  const { probe } = await import('../estimate/probe.js')
  const own = new Set([...Object.keys(machineFields()), ...Object.keys(estimateFields()), 'model', 'reward'])
  const recipeOptions = Object.fromEntries(Object.entries(given).filter(([name]) => !own.has(name)))
  const machine = options as never
  if (recipe === 'reward') {
    await using model = await openTrainable(machine)
    return await probe(recipe, model, recipeOptions, sizes)
  }
  await using model = await openModel(machine)
  if (options.reward === undefined) return await probe(recipe, model, recipeOptions, sizes)
  const { rewards, close } = await openRewards(options.reward, model, machine)
  try {
    return await probe(recipe, model, { ...recipeOptions, reward: rewards }, sizes)
  } finally {
    await close()
  }
}

/** `posttrain estimate RECIPE --model DIR ...`: the recipe's own flags, without data. */
export function estimateCommand(): Command {
  const command = new Command('estimate').description(
    'Estimate the memory of a run, and with --probe its time',
  )
  for (const recipe of RECIPE_NAMES) {
    const set = estimateOptions(recipe)
    const sub = new Command(recipe).description(`Memory of posttrain ${recipe} with the same flags`)
    command.addCommand(
      addFlags(sub, set).action(async () => {
        // A run would write to a folder of its own.
        const { options, given } = await readFlags(sub, set, (given) => {
          given.output ??= `runs/${recipe}`
        })
        const report = await estimate(recipe, options as unknown as Options, given)
        if (options.json) await print(JSON.stringify(report))
        else process.stdout.write(drawEstimate(report))
        // Scripts ask whether a run fits.
        if (report.fits === false) process.exitCode = 1
      }),
    )
  }
  return command
}
