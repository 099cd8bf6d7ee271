// The functions of a C++ file by its braces: the outermost block that is no namespace, type or initializer is a body.

/** The text with comments, literals and preprocessor lines blanked, so that every brace left is one of the code. */
function blanked(text) {
  const blank = (match) => match.replace(/[^\n]/g, ' ')
  const tokens =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|R"([^\s()\\]{0,16})\([\s\S]*?\)\1"|"(?:\\[\s\S]|[^"\\\n])*"|(?<![\w])'(?:\\.[^'\n]*|[^'\\\n])'|^[ \t]*#(?:[^\\\n]|\\[\s\S])*/gm
  return text.replace(tokens, blank)
}

const KEYWORD =
  /^(?:(?:inline|static|const|constexpr|typedef|export)\s+)*(namespace|class|struct|union|enum|extern)\b/

/** Takes `template <...>`, attributes and alignas off the text before a brace. */
function bare(head) {
  let text = head.trim()
  while (/^template\s*</.test(text)) {
    let [depth, at] = [0, text.indexOf('<')]
    do {
      if (text[at] === '<') depth++
      if (text[at] === '>') depth--
      at++
    } while (depth > 0 && at < text.length)
    text = text.slice(at).trim()
  }
  return text.replace(/\[\[.*?\]\]|\balignas\s*\([^)]*\)|\b__attribute__\s*\(\(.*?\)\)/gs, '').trim()
}

function kindOf(head) {
  const text = bare(head)
  if (KEYWORD.test(text) && !text.includes('(')) return 'scope'
  if (/[=,(]$/.test(text)) return 'initializer'
  // `Table table{`; nothing at all stands before the body behind a constructor's `: member{0}`.
  if (text !== '' && !text.includes('(')) return 'initializer'
  return 'function'
}

/** `{ name, line, lines }` of each function, or `{ line, unclear }` where the braces are not understood. */
export function functionsOf({ text }) {
  const code = blanked(text)
  const found = []
  // Blocks around the place, outermost first; within a function only the depth counts.
  const scopes = []
  let inside
  let [depth, line, headLine, head] = [0, 1, 1, '']
  const open = () => {
    if (inside) depth++
    else {
      const kind = kindOf(head)
      if (kind === 'scope') scopes.push(line)
      else [inside, depth] = [{ kind, head, line: headLine }, 1]
    }
  }
  const close = () => {
    if (inside) {
      depth--
      if (depth > 0) return
      if (inside.kind === 'function') {
        const name = /([~\w:]+)\s*\(/.exec(bare(inside.head))?.[1] ?? 'a function without a name'
        found.push({ name, line: inside.line, lines: line - inside.line + 1 })
      }
      inside = undefined
    } else if (scopes.length > 0) scopes.pop()
    else found.push({ line, unclear: 'a brace closes that none opened' })
  }
  for (const char of code) {
    if (char === '{') open()
    else if (char === '}') close()
    if (char === '{' || char === '}' || char === ';') head = ''
    else if (char.trim() !== '' || head !== '') {
      if (head === '') headLine = line
      head += char
    }
    if (char === '\n') line++
  }
  if (inside || scopes.length > 0) {
    found.push({ line: inside?.line ?? scopes.at(-1), unclear: 'a brace opens that none closes' })
  }
  return found
}
