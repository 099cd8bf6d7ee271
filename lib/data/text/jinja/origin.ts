import type { DataOrigin } from './rendering.js'

/** A value of the template's variables, one of its keys or its punctuation, as the origin of characters. */
export class Origin {
  #key: Origin | null = null
  #syntax: Origin | null = null
  #data: DataOrigin | null = null

  readonly parent: Origin | null
  readonly name: string | number
  readonly part: DataOrigin['part']

  /** `parent` is null for a variable. */
  constructor(parent: Origin | null, name: string | number, part: DataOrigin['part'] = 'value') {
    this.parent = parent
    this.name = name
    this.part = part
  }

  /** The key by which the value is found. */
  get ofKey(): Origin {
    this.#key ??= new Origin(this.parent, this.name, 'key')
    return this.#key
  }

  /** Quotes, brackets and commas that a spelling of the value adds. */
  get ofSyntax(): Origin {
    this.#syntax ??= new Origin(this.parent, this.name, 'syntax')
    return this.#syntax
  }

  /** The origin of a value inside, as an item or under a key. */
  child(name: string | number): Origin {
    return new Origin(this, name)
  }

  /** The public form; the same object for the same origin. */
  get data(): DataOrigin {
    if (this.#data === null) {
      const path: (string | number)[] = []
      for (let at: Origin | null = this; at !== null; at = at.parent) path.push(at.name)
      this.#data = { path: path.reverse(), part: this.part }
    }
    return this.#data
  }
}

/** Origin of characters that a `{% generation %}` block wrote into a text which is printed later. */
export class Generated {
  readonly origin: Origin | null
  readonly block: number

  constructor(origin: Origin | null, block: number) {
    this.origin = origin
    this.block = block
  }
}

/** Origin of a character; null: the template wrote it. */
export type Mark = Origin | Generated | null

/** Origin of the punctuation around a value; null for a value that the template made. */
export function syntaxOf(mark: Mark): Mark {
  return mark instanceof Origin ? mark.ofSyntax : mark
}
