/**
 * The hand-written types of the boundary between TypeScript and the native core, one file per file of native/bindings:
 *
 *   engine       the torch thread, devices, memory, lifetimes of handles    bindings/engine.cpp, handle.cpp
 *   files        calls of the operating system that Node.js does not have   bindings/files.cpp
 *   handles      opaque references to native objects
 *   spec         a decoder, layer by layer                                  bindings/convert.cpp
 *   models       bases, adapters, roles, their files                        bindings/models.cpp
 *   terms        loss terms of a backward pass                              bindings/terms.cpp
 *   training     batches, forward, backward                                 bindings/training.cpp
 *   optim        AdamW                                                      bindings/optim.cpp
 *   generation   sessions                                                   bindings/generation.cpp
 *   losses       losses over plain arrays                                   bindings/losses.cpp
 *   rollout      rewards per token, advantages                              bindings/rollout.cpp
 *
 * Only data crosses it: opaque handles, typed arrays and plain objects. Every call that computes returns a Promise and
 * runs as one job, in order, on the single torch thread of the process.
 *
 * Shapes: T tokens of a packed batch, D documents, V vocabulary, B rows of a generation session.
 */
import type { EngineCalls } from './engine.js'
import type { FileCalls } from './files.js'
import type { GenerationCalls } from './generation.js'
import type { LossCalls } from './losses.js'
import type { ModelCalls } from './models.js'
import type { OptimCalls } from './optim.js'
import type { RolloutCalls } from './rollout.js'
import type { TrainingCalls } from './training.js'

export type * from './engine.js'
export type * from './generation.js'
export type * from './handles.js'
export type * from './losses.js'
export type * from './models.js'
export type * from './optim.js'
export type * from './spec.js'
export type * from './terms.js'
export type * from './training.js'

/** The native core. */
export interface Core
  extends EngineCalls,
    FileCalls,
    ModelCalls,
    TrainingCalls,
    OptimCalls,
    GenerationCalls,
    LossCalls,
    RolloutCalls {}
