/** A prompt that holds a dialog, as those of HH-RLHF do. */
export const DIALOG = /^\s*Human: [\s\S]*\n\nAssistant:\s*$/

/** Whether a value is a whole dialog, as the responses of HH-RLHF are. */
export const isDialog = (value: unknown): boolean =>
  typeof value === 'string' && /^\s*Human: [\s\S]*\n\nAssistant:/.test(value)

/**
 * Splits two texts that hold a whole dialog each, as those of HH-RLHF do, into their common start, which is the prompt,
 * and their ends. A space before the first difference belongs to the ends, and each end has at least one character (as
 * TRL's `extract_prompt`, https://github.com/huggingface/trl/blob/v1.13.0/trl/data_utils.py). Null without a common start.
 */
export function splitCommonStart(
  chosen: string,
  rejected: string,
): { prompt: string; ends: [string, string] } | null {
  const [a, b] = [[...chosen], [...rejected]]
  const shortest = Math.min(a.length, b.length)
  let at = 0
  while (at < shortest && a[at] === b[at]) at++
  // One text begins with the other, or is the same.
  if (at === shortest) at--
  else if (a[at - 1] === ' ') at--
  if (at <= 0) return null
  const prompt = a.slice(0, at).join('')
  return { prompt, ends: [chosen.slice(prompt.length), rejected.slice(prompt.length)] }
}
