const GENERATION = /\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}/g

/** Removes `{% generation %}` from a template, for readers that do not support it. */
export function withoutGeneration(source: string): string {
  return source.replace(GENERATION, (tag, left: string, right: string, at: number) => {
    const before = source.slice(source.lastIndexOf('\n', at - 1) + 1, at)
    const alone = before.trim() === '' || source[at + tag.length] === '\n'
    // An `if` block follows the same white space rules as the tag it replaces.
    return left || right || alone ? `{%${left} if true %}{% endif ${right}%}` : ''
  })
}
