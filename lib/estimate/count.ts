import type { DecoderSpec } from '../addon/addon.js'
import { type AdapterModule, isEmbedding } from '../models/adapter-modules.js'
import type { Family } from '../models/families/index.js'
import type { AdapterConfig } from '../models/lora.js'
import { isQuantized } from '../models/quantization.js'
import { parameterShape } from '../models/shapes.js'
import { type Computed, codedBytes, computesWide, FLOAT, linearShape, type Machine } from './layers.js'
import { type Bytes, Ledger, type Part } from './ledger.js'
import {
  type Batch,
  countBackward,
  countForward,
  countSession,
  type LossShape,
  type RolloutShape,
} from './passes.js'

/** Weights in memory, which roles may share. */
export interface CountedBase {
  name: string
  family: Family
  spec: DecoderSpec
  /** The linear layers of its blocks are in 4 bits. */
  coded: boolean
}

/** Low-rank updates in memory. */
export interface CountedAdapter {
  name: string
  config: AdapterConfig
}

/** A base with what stands upon it; a trained one has gradients and an optimizer. */
export interface CountedRole {
  base: CountedBase
  adapter: CountedAdapter | null
  /** Name of its scalar head; null where it has none. */
  head: string | null
  trained: boolean
}

/** The jobs of one phase of a run. */
export type Job =
  | { kind: 'generate'; role: CountedRole; rollout: RolloutShape }
  | { kind: 'forward'; role: CountedRole; batch: Batch; head: 'logProbs' | 'score' }
  | {
      kind: 'backward'
      role: CountedRole
      batch: Batch
      terms: LossShape['terms']
      /** The model that a fullKl among the terms compares with. */
      reference: CountedRole | null
    }

export type Phase = 'rollout' | 'score' | 'update'

/** A run as its memory sees it: what is held all the time, and what each phase does. */
export interface CountedRun {
  machine: Machine
  roles: readonly CountedRole[]
  phases: readonly { phase: Phase; jobs: readonly Job[] }[]
  checkpointing: boolean
  temperature: number
  /** Precision of the optimizer's moments. */
  moments: 'float32' | 'bfloat16' | '8bit'
}

export interface MemoryCount {
  /** Parameters of the trained model with its adapter and head, and how many of them are trained. */
  parameters: number
  trainableParameters: number
  /** Memory held for the whole run, each part with its name. */
  held: { part: Part; name: string; bytes: number }[]
  /** The most that is in memory at once in each phase, by part. */
  phases: { phase: Phase; peak: Bytes }[]
  peak: number
}

/** Bytes of the two moments of a parameter, each tensor by itself: native/optim/adamw.cpp. */
function momentBytes({ size, embedding }: Trained, moments: CountedRun['moments']): number[] {
  if (moments === 'bfloat16') return [size * 2, size * 2]
  if (moments === 'float32' || embedding || size < 4096) return [size * FLOAT, size * FLOAT]
  const scales = Math.ceil(size / 256) * FLOAT
  return [size, scales, size, scales]
}

/** Values of a parameter that an optimizer trains, and whether its rows are looked up. */
interface Trained {
  size: number
  embedding: boolean
}

const looksUp = (parameter: string) => parameter === 'embed.weight' || parameter === 'positions.weight'
const plainly = (size: number): Trained => ({ size, embedding: false })

/** Parameters of a base. */
function parametersIn({ family, spec }: CountedBase): Trained[] {
  const names = new Set(family.weights(spec).map(({ parameter }) => parameter))
  return [...names].map((name) => ({
    size: parameterShape(spec, name).reduce((product, n) => product * n, 1),
    embedding: looksUp(name),
  }))
}

/** Bytes of each tensor of the weights. Rows of a fused layer are coded apart, as the files have them. */
function weightBytes({ family, spec, coded }: CountedBase, width: number): number[] {
  const values = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1)
  const whole = new Set<string>()
  return family.weights(spec).flatMap(({ parameter, rows }) => {
    const shape = parameterShape(spec, parameter)
    if (coded && isQuantized(parameter)) return codedBytes(values([rows?.[1] ?? shape[0]!, shape[1]!]))
    if (whole.has(parameter)) return []
    whole.add(parameter)
    return [values(shape) * width]
  })
}

/** Values of every parameter of a base. */
const sizesOf = (base: CountedBase): number[] => parametersIn(base).map(({ size }) => size)

/** Values of the tensors of an adapter. */
interface AdapterSizes {
  /** A [rank, in], B [out, rank], and with DoRA a length [out] of each module. */
  updates: number[]
  /** Those of them that compute in the dtype of the base, and have float32 master values. */
  rounded: number[]
  /** What PiSSA and OLoRA took out of the base, as frozen A and B. */
  takenOut: number[]
  /** Copies of parameters in the dtype of the base. One of some rows of a fused parameter holds all of its rows. */
  copies: number[]
  /** The copies that have gradients. */
  withGradients: number[]
  /** The trained part of the copies. */
  trainedCopies: Trained[]
}

function adapterSizes({ config }: CountedAdapter, { spec }: CountedBase): AdapterSizes {
  const matrices = ({ layer, linear, rows, rank }: AdapterModule): [number, number, number] => {
    const embedding = isEmbedding({ linear })
    const [all, columns] =
      linear === 'embed' || linear === 'head' || linear === 'positions'
        ? (parameterShape(spec, `${linear}.weight`) as [number, number])
        : linearShape(spec.layers[layer]!, spec.hiddenSize, linear)
    const out = rows?.[1] ?? all
    return [rank * columns, out * rank, embedding ? columns : out]
  }
  const trainable = config.copies.filter((copy) => copy.trainable)
  const values = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1)
  const copied = (of: typeof config.copies) =>
    [...new Set(of.map(({ parameters }) => parameters[0]!))].map((name) => values(parameterShape(spec, name)))
  const updatesOf = (modules: readonly AdapterModule[]) =>
    modules.flatMap((module) => {
      const [a, b, magnitude] = matrices(module)
      return [...(module.sharedWith === undefined ? [a, b] : []), ...(config.dora ? [magnitude] : [])]
    })
  return {
    updates: updatesOf(config.modules),
    rounded: updatesOf(config.modules.filter((module) => !computesWide(config, module))),
    takenOut: config.modules.flatMap((module) =>
      module.takenOut === undefined ? [] : matrices(module).slice(0, 2),
    ),
    copies: copied(config.copies),
    withGradients: copied(trainable),
    trainedCopies: trainable.map(({ parameters, rows }) => {
      const [all, ...others] = parameterShape(spec, parameters[0]!)
      return { size: values([rows?.[1] ?? all!, ...others]), embedding: parameters.some(looksUp) }
    }),
  }
}

/**
 * Bytes of tensors that a run holds at most in each phase, from the second step on: what the native core allocates is
 * taken and given back in a ledger, in the core's own order, with the sizes of the allocator's blocks. Not counted: the
 * process itself, libtorch's code, what the allocator keeps for reuse, rows and tokens on the JavaScript side.
 */
export function countMemory(run: CountedRun): MemoryCount {
  const { machine } = run
  const ledger = new Ledger(machine.device)
  const held: MemoryCount['held'] = []
  const hold = (part: Part, name: string, sizes: readonly number[], bytes: number) => {
    const taken = sizes.map((size) => ledger.take(part, size * bytes))
    held.push({ part, name, bytes: taken.reduce((sum, tensor) => sum + tensor.bytes, 0) })
  }
  const width = machine.dtype === 'float32' ? FLOAT : 2
  for (const base of new Set(run.roles.map((role) => role.base)))
    hold('weights', base.name, weightBytes(base, width), 1)
  const adapters = new Map<CountedAdapter, CountedBase>()
  for (const { base, adapter } of run.roles) if (adapter !== null) adapters.set(adapter, base)
  for (const [adapter, base] of adapters) {
    const { updates, rounded, takenOut, copies } = adapterSizes(adapter, base)
    const values = width === FLOAT ? [] : rounded
    const bytes = (sizes: readonly number[], each: number) => sizes.map((size) => size * each)
    hold(
      'adapters',
      adapter.name,
      [...bytes([...updates, ...takenOut], FLOAT), ...bytes([...values, ...copies], width)],
      1,
    )
  }
  for (const { base, head } of run.roles)
    if (head !== null) hold('heads', head, [base.spec.hiddenSize], FLOAT)
  for (const { base, adapter, head, trained } of run.roles) {
    if (!trained) continue
    const name = adapter?.name ?? base.name
    const ofAdapter = adapter && adapterSizes(adapter, base)
    const narrow = ofAdapter === null ? parametersIn(base) : ofAdapter.trainedCopies
    const wide = [...(ofAdapter?.updates ?? []), ...(head === null ? [] : [base.spec.hiddenSize])]
    const narrowSizes = narrow.map(({ size }) => size)
    hold('gradients', name, [...wide, ...(ofAdapter?.withGradients ?? narrowSizes)], FLOAT)
    // Two moments, and float32 master weights of what computes in half precision.
    const masters = width === FLOAT ? [] : narrowSizes.map((size) => size * FLOAT)
    const moments = [...wide.map(plainly), ...narrow].flatMap((of) => momentBytes(of, run.moments))
    hold('optimizer', name, [...moments, ...masters], 1)
  }
  takeRotaryTables(run, ledger)

  const phases = run.phases.map(({ phase, jobs }) => {
    ledger.takePeak()
    for (const job of jobs) runJob(job, run, ledger)
    return { phase, peak: ledger.takePeak() }
  })
  return {
    ...parametersOf(run.roles[0]!),
    held,
    phases,
    peak: Math.max(...phases.map(({ peak }) => peak.total)),
  }
}

function parametersOf({ base, adapter, head }: CountedRole) {
  const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size, 0)
  const scalar = head === null ? 0 : base.spec.hiddenSize
  const all = sum(sizesOf(base)) + scalar
  if (adapter === null) return { parameters: all, trainableParameters: all }
  const { updates, trainedCopies } = adapterSizes(adapter, base)
  const added = sum([...updates, ...trainedCopies.map(({ size }) => size)])
  return { parameters: all + added, trainableParameters: added + scalar }
}

function computed(
  { base, adapter, trained }: CountedRole,
  { machine }: CountedRun,
  ledger: Ledger,
): Computed {
  return {
    machine,
    ledger,
    spec: base.spec,
    coded: base.coded,
    adapter: adapter?.config ?? null,
    trained: trained && adapter === null,
  }
}

function runJob(job: Job, run: CountedRun, ledger: Ledger): void {
  const of = computed(job.role, run, ledger)
  switch (job.kind) {
    case 'generate':
      countSession(of, job.rollout)
      return
    case 'forward':
      countForward(of, job.batch, job.head, run.temperature)
      return
    case 'backward': {
      const { terms } = job
      const reference = job.reference && computed(job.reference, run, ledger)
      countBackward(of, job.batch, { terms, reference, temperature: run.temperature }, run.checkpointing)
      return
    }
    default:
      job satisfies never
  }
}

/** Cosines and sines of the positions that a run comes to, once for each base. */
function takeRotaryTables(run: CountedRun, ledger: Ledger): void {
  let positions = 64
  for (const job of run.phases.flatMap(({ jobs }) => jobs)) {
    if (job.kind === 'generate')
      positions = Math.max(positions, job.rollout.promptTokens + job.rollout.newTokens)
    else for (const length of job.batch.lengths) positions = Math.max(positions, length)
  }
  const width = run.machine.dtype === 'float32' ? FLOAT : 2
  for (const { spec } of new Set(run.roles.map(({ base }) => base))) {
    const layer = spec.layers.find(({ rope }) => rope !== null)
    if (layer === undefined) continue
    for (let table = 0; table < 2; table++)
      ledger.take('activations', (positions * layer.headDim * width) / 2)
  }
}
