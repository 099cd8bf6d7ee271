/** Bounds of a template, for templates come with models of strangers. */
export interface Limits {
  /**
   * Work of one rendering: statements, calls, loop rounds and characters processed; default 2 million and 5,000 for each
   * message, tool and other item of the lists among the variables.
   */
  steps: number
  /** Characters (UTF-16 code units) of the output and of every string; default 32 Mi. */
  length: number
  /** Calls of macros and recursive loops inside each other; default 200. */
  calls: number
  /** Lists and dicts inside each other that are printed, compared or made JSON; default 500. */
  nesting: number
}

export const DEFAULT_LIMITS: Readonly<Limits> = {
  steps: 2_000_000,
  length: 32 * 1024 * 1024,
  calls: 200,
  nesting: 500,
}

/** Steps for each item of the lists among the variables: some templates go through all messages for each of them. */
export const STEPS_PER_ITEM = 5000
/** Characters of a template's source. */
export const MAX_SOURCE = 1024 * 1024
/** Words and symbols of a template's source; the longest of known templates has 3,000. */
export const MAX_TOKENS = 16_384
/** Work of compiling a template: nodes looked at and variables of branches compared; known templates need 20,000. */
export const COMPILING_STEPS = 400_000
/** Blocks, or parenthesized expressions, inside each other. */
export const MAX_DEPTH = 150
/** Operators and blocks inside each other, chains of operators included. */
export const MAX_TREE_DEPTH = 500
/** Numbers of a range(), as in Jinja2's sandbox. */
export const MAX_RANGE = 100_000

/** What was exceeded, and by which limit. */
export class LimitError extends Error {}

// Rendering is synchronous: one at a time.
let limits: Readonly<Limits> = DEFAULT_LIMITS
let left = Number.POSITIVE_INFINITY
let calls = 0

/** Runs a rendering under limits. */
export function limited<T>(within: Readonly<Limits>, run: () => T): T {
  const before = { limits, left, calls }
  limits = within
  left = within.steps
  calls = 0
  try {
    return run()
  } finally {
    ;({ limits, left, calls } = before)
  }
}

export function charge(steps: number): void {
  left -= steps
  if (left < 0) throw new LimitError(`it takes more than ${limits.steps} steps`)
}

/** Charges for a search of one text in another, which in the worst case compares most of the one at many places of the other. */
export function chargeSearch(length: number, wanted: number): void {
  charge(length / 16 + (Math.max(0, length - wanted) * wanted) / 16_384)
}

export function checkLength(length: number): void {
  if (length > limits.length) throw new LimitError(`a text has more than ${limits.length} characters`)
}

export function checkNesting(depth: number): void {
  if (depth > limits.nesting) {
    throw new LimitError(`a value has more than ${limits.nesting} lists and dicts inside each other`)
  }
}

/** Runs the body of a macro or a recursive loop. */
export function called<T>(run: () => T): T {
  charge(20)
  if (calls >= limits.calls) throw new LimitError(`more than ${limits.calls} calls are inside each other`)
  calls++
  try {
    return run()
  } finally {
    calls--
  }
}
