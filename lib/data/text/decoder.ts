import { PosttrainError } from '../../errors.js'
import { byteOf } from './byte-level.js'
import { type Encoder, orDamaged } from './encoder.js'
import type { AddedToken } from './tokenizer-files.js'

/** Decodes token ids to text. */
export class Decoder {
  readonly #encoder: Encoder
  readonly #added: ReadonlyMap<number, AddedToken>
  readonly #byteLevel: boolean

  constructor(encoder: Encoder, added: ReadonlyMap<number, AddedToken>, byteLevel: boolean) {
    this.#encoder = encoder
    this.#added = added
    this.#byteLevel = byteLevel
  }

  decode(ids: ArrayLike<number>, skipSpecial: boolean): string {
    const list = Array.from(ids)
    if (this.#byteLevel)
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(this.#bytesOf(list, skipSpecial))
    return list.length === 0
      ? ''
      : orDamaged(() =>
          this.#encoder.decode(list, {
            skip_special_tokens: skipSpecial,
            clean_up_tokenization_spaces: false,
          }),
        )
  }

  /** Decodes incrementally: `push` returns whole characters only; `end` returns the rest. */
  stream(skipSpecial: boolean): { push(id: number): string; end(): string } {
    if (this.#byteLevel) {
      const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
      return {
        push: (id) => decoder.decode(this.#bytesOf([id], skipSpecial), { stream: true }),
        end: () => decoder.decode(),
      }
    }
    // A token's text may depend on the one before it (a leading space): the last tokens stay as context.
    let before: number[] = []
    let pending: number[] = []
    const take = (sure: boolean) => {
      const all = this.decode([...before, ...pending], skipSpecial)
      const text = all.slice(this.decode(before, skipSpecial).length)
      // A character has at most four bytes, so four tokens cannot be an incomplete one.
      if (!sure && text.endsWith('\uFFFD') && pending.length < 4) return ''
      if (text !== '') before = pending
      pending = text === '' ? pending : []
      return text
    }
    return {
      push: (id) => {
        pending.push(id)
        return take(false)
      },
      end: () => (pending.length === 0 ? '' : take(true)),
    }
  }

  /** Range of each token in its text: [start, end) in UTF-16 units. Byte-level models only. */
  offsets(ids: ArrayLike<number>): [number, number][] {
    if (!this.#byteLevel) {
      throw new PosttrainError('ERR_UNSUPPORTED_MODEL', 'offsets are known for byte-level tokenizers only')
    }
    const list = Array.from(ids)
    const unitsAt: number[] = [0]
    // A byte belongs to the character it starts or continues; units count once the character is complete.
    let units = 0
    for (const character of new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      this.#bytesOf(list, false),
    )) {
      const bytes = new TextEncoder().encode(character).length
      for (let i = 1; i < bytes; i++) unitsAt.push(units)
      units += character.length
      unitsAt.push(units)
    }
    let byte = 0
    return list.map((id) => {
      const start = byte
      byte += this.#bytesOf([id], false).length
      return [
        unitsAt[Math.min(start, unitsAt.length - 1)] ?? units,
        unitsAt[Math.min(byte, unitsAt.length - 1)] ?? units,
      ]
    })
  }

  #bytesOf(ids: number[], skipSpecial: boolean): Uint8Array {
    const bytes: number[] = []
    for (const id of ids) {
      const added = this.#added.get(id)
      if (added !== undefined) {
        if (!(skipSpecial && added.special)) bytes.push(...new TextEncoder().encode(added.content))
        continue
      }
      for (const character of this.#encoder.id_to_token(id) ?? '') {
        const byte = byteOf(character)
        if (byte === undefined) bytes.push(...new TextEncoder().encode(character))
        else bytes.push(byte)
      }
    }
    return Uint8Array.from(bytes)
  }
}
