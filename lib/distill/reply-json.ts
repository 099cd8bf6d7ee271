/**
 * The JSON list in an answer, which may stand in an object, a fence or among words, after a thinking part; undefined
 * where there is none.
 */
export function jsonIn(reply: string): unknown {
  const text = reply.replace(/^\s*<think>[\s\S]*?<\/think>/, '')
  const [from, to] = [text.indexOf('['), text.lastIndexOf(']')]
  if (from < 0 || to < from) return undefined
  try {
    return JSON.parse(text.slice(from, to + 1))
  } catch {
    return undefined
  }
}
