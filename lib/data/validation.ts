import { PosttrainError } from '../errors.js'
import { permutation, STREAM } from '../random.js'
import type { TokenStore } from './encode/token-store.js'
import type { RowSource, Validation } from './sources.js'

/** Training rows, and those for the validation loss. */
export interface Split<Set> {
  train: Set
  validation: Set | null
}

/** Places of the rows held out for validation, chosen by the seed. */
export function heldOut(total: number, fraction: number, seed: number): ReadonlySet<number> {
  const count = Math.round(total * fraction)
  if (!(fraction > 0 && fraction < 1) || count === 0 || count === total) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `a validation fraction of ${fraction} of ${total} rows leaves no rows for training or for validation`,
    )
  }
  return new Set(permutation(total, seed, STREAM.validation).subarray(0, count))
}

/** Splits a set into training and validation as `validation` asks; closes its store on failure. */
export async function withValidation<Loaded extends { store: TokenStore }, Set>(
  whole: Loaded,
  validation: Validation | undefined,
  how: {
    /** Trains on all rows. */
    alone(whole: Loaded): Promise<Set>
    /** Holds out a fraction of the rows. */
    split(whole: Loaded, fraction: number): Promise<Split<Set>>
    load(source: RowSource): Promise<Loaded>
    /** Validates on other rows. */
    beside(whole: Loaded, other: Loaded): Promise<Split<Set>>
  },
): Promise<Split<Set>> {
  try {
    if (validation === undefined) return { train: await how.alone(whole), validation: null }
    if (typeof validation === 'object' && 'fraction' in validation)
      return await how.split(whole, validation.fraction)
    return await how.beside(whole, await how.load(validation))
  } catch (error) {
    await whole.store.close()
    throw error
  }
}
