/** The data behind a stretch of rendered text. */
export interface DataOrigin {
  /** From the template's variables down: `['messages', 2, 'tool_calls', 0, 'function', 'arguments', 'city']`. */
  path: readonly (string | number)[]
  /** The string or number there, one of its keys, or the punctuation that `tojson` and Python's spelling add. */
  part: 'value' | 'key' | 'syntax'
}

/** A stretch of rendered text with one origin; null: the template wrote it. */
export interface Run {
  from: number
  to: number
  origin: DataOrigin | null
}

/** Rendered text with the origin of every character. */
export interface Rendering {
  text: string
  /** In order and without gaps; they cover the whole text. */
  runs: readonly Run[]
  /** Stretches inside `{% generation %}` blocks, in order. */
  generation: readonly { from: number; to: number }[]
}
