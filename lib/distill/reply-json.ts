/**
 * Extracts the JSON list of an answer, also from an object, a code fence or surrounding text, after a thinking part;
 * undefined if there is none.
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
