// Every path that the documents name is there. In code spans that is a path below a folder of the repository, and a
// source file by the end of its path (`pass.cpp`, `train/sft.ts`); in code blocks only the first kind;
// and every link that is no address. What a program writes or a reader has (`runs/first`, `model/config.json`) is none.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { report } from './sources.mjs'

const DOCUMENT = /^(README|ARCHITECTURE|CONTRIBUTING)\.md$|^docs\/.*\.md$|^examples\/.*README\.md$/
const SOURCE = /\.(ts|mjs|cjs|cpp|h|py)$/
/** `a.{h,cpp}` is `a.h` and `a.cpp`. */
function braced(path) {
  const match = /^(.*?)\{([^{}]*)\}(.*)$/.exec(path)
  return match ? match[2].split(',').flatMap((each) => braced(match[1] + each.trim() + match[3])) : [path]
}

/** Names of all files of the repository and of the folders that they are in. */
function namesIn(root) {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const files = execFileSync('git', args, { cwd: root, encoding: 'utf8' }).split('\0').filter(Boolean)
  const names = new Set(files)
  for (const file of files) {
    for (let folder = posix.dirname(file); folder !== '.'; folder = posix.dirname(folder)) names.add(folder)
  }
  return names
}

class Names {
  constructor(names) {
    this.names = names
    this.top = new Set([...names].filter((name) => !name.includes('/')))
  }

  /** Whether there is such a path, or with `end` one that ends so; `*` stands for a part of a name. */
  has(path, end = false) {
    const name = posix.normalize(path).replace(/\/$/, '')
    const parts = name.split(/(\*+)/).map((part) => {
      if (part.startsWith('*')) return part.length > 1 ? '.*' : '[^/]*'
      return part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    })
    const pattern = new RegExp(`${end ? '(^|/)' : '^'}${parts.join('')}$`)
    return this.names.has(name) || [...this.names].some((each) => pattern.test(each))
  }

  /** Whether a word of the text is a path of ours that is not there; `source` asks for names of source files too. */
  lacks(word, source) {
    const path = word
      .replace(/^[("'[]+/, '')
      .replace(/(:\d+(-\d+)?)?[)"'\],.;:]*$/, '')
      .replace(/^\.\//, '')
    if (path === '' || /[<>$=|:@]/.test(path)) return false
    return braced(path).some((each) => {
      const below = each.includes('/') && this.top.has(each.split('/')[0])
      if (below) return !this.has(each)
      return source && SOURCE.test(each) && !this.has(each, true)
    })
  }
}

/** Words of code in a line, and whether they stand in a span. */
function* wordsOf(line, fenced) {
  if (fenced) for (const word of line.split(/\s+/)) yield { word, source: false }
  else {
    for (const [, span] of line.matchAll(/`([^`]+)`/g)) {
      // A list in braces may have blanks.
      for (const word of span.replace(/\{[^}]*\}/g, (list) => list.replace(/\s/g, '')).split(/\s+/)) {
        yield { word, source: true }
      }
    }
  }
}

/** Paths in the documents that are not there, each with its line. */
export function lackingPaths(root) {
  const names = new Names(namesIn(root))
  const found = []
  for (const document of [...names.names].filter((name) => DOCUMENT.test(name)).sort()) {
    const text = readFileSync(join(root, document), 'utf8')
    if (text.slice(0, 200).includes('@generated')) continue
    let fenced = false
    for (const [n, line] of text.split('\n').entries()) {
      if (/^\s*```/.test(line)) {
        fenced = !fenced
        continue
      }
      for (const { word, source } of wordsOf(line, fenced)) {
        if (names.lacks(word, source)) found.push(`${document}:${n + 1}: there is no ${word}`)
      }
      if (fenced) continue
      for (const [, target] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
        const path = target.replace(/#.*$/, '')
        if (path === '' || /^[a-z]+:/.test(path)) continue
        if (!names.has(posix.join(posix.dirname(document), path))) {
          found.push(`${document}:${n + 1}: there is no ${target}`)
        }
      }
    }
  }
  return found
}

if (process.argv[1] === fileURLToPath(import.meta.url)) report({ 'document paths': lackingPaths })
