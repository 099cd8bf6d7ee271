import { is, needArgument } from '../../arguments.js'
import { Listeners } from '../listeners.js'

/** Events of downloads from and uploads to the Hub; `repository` is `org/name`, with @revision if it is not main. */
export type HubEvent =
  | HubStartEvent
  | HubProgressEvent
  | HubRetryEvent
  | HubWaitEvent
  | HubUnreachableEvent
  | HubWarningEvent
  | HubEndEvent

export interface HubStartEvent {
  type: 'start'
  repository: string
  direction: 'download' | 'upload'
  /** Files to transfer; those already there are not included. */
  files: { path: string; bytes: number }[]
  totalBytes: number
}

export interface HubProgressEvent {
  type: 'progress'
  repository: string
  /** Bytes of all files of the start event. */
  receivedBytes: number
  totalBytes: number
}

/** A download was interrupted and is retried. */
export interface HubRetryEvent {
  type: 'retry'
  repository: string
  path: string
  reason: string
}

/** Waiting for another process that downloads the same file. */
export interface HubWaitEvent {
  type: 'wait'
  repository: string
  path: string
  pid: number
}

/** The Hub cannot be reached; the cached files are used. */
export interface HubUnreachableEvent {
  type: 'unreachable'
  repository: string
  reason: string
}

/** A likely mistake that does not stop the transfer: what was found, and what to do. */
export interface HubWarningEvent {
  type: 'warning'
  repository: string
  message: string
}

export interface HubEndEvent {
  type: 'end'
  repository: string
  direction: 'download' | 'upload'
  /** Folder of the snapshot, or URL of the pushed commit. */
  path: string
}

export type HubListener = (event: HubEvent) => void

const listeners = new Set<HubListener>()

/**
 * Calls `listener` with every Hub event of this process, data files included. Call the returned function to stop. What a
 * listener throws ends the transfer, as it is.
 */
export function onHubEvent(listener: HubListener): () => void {
  needArgument('onHubEvent', 'the listener', listener, is.callable)
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** Emits the events of one repository. */
export class Told {
  readonly #repository: string
  readonly #listeners: Listeners<HubEvent>
  readonly #received = new Map<string, number>()
  #total = 0

  constructor(repository: string, own: HubListener | undefined) {
    this.#repository = repository
    this.#listeners = new Listeners(() => [own, ...listeners])
  }

  start(direction: HubStartEvent['direction'], files: readonly { path: string; bytes: number }[]): void {
    this.#received.clear()
    for (const { path } of files) this.#received.set(path, 0)
    this.#total = files.reduce((sum, { bytes }) => sum + bytes, 0)
    const listed = files.map(({ path, bytes }) => ({ path, bytes }))
    this.#listeners.tell({
      type: 'start',
      repository: this.#repository,
      direction,
      files: listed,
      totalBytes: this.#total,
    })
  }

  progress(path: string, bytes: number): void {
    if (this.#received.get(path) === bytes) return
    this.#received.set(path, bytes)
    const receivedBytes = [...this.#received.values()].reduce((sum, value) => sum + value, 0)
    this.#listeners.tell({
      type: 'progress',
      repository: this.#repository,
      receivedBytes,
      totalBytes: this.#total,
    })
  }

  retry(path: string, reason: string): void {
    this.#listeners.tell({ type: 'retry', repository: this.#repository, path, reason })
  }

  wait(path: string, pid: number): void {
    this.#listeners.tell({ type: 'wait', repository: this.#repository, path, pid })
  }

  unreachable(reason: string): void {
    this.#listeners.tell({ type: 'unreachable', repository: this.#repository, reason })
  }

  warning(message: string): void {
    this.#listeners.tell({ type: 'warning', repository: this.#repository, message })
  }

  end(direction: HubEndEvent['direction'], path: string): void {
    this.#listeners.tell({ type: 'end', repository: this.#repository, direction, path })
  }
}
