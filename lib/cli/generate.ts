import { Command } from 'commander'
import type { Documents } from '../data/formats/format.js'
import { PosttrainError } from '../errors.js'
import type { Prompt } from '../generate/generate.js'
import { generateOptions } from '../generate/options.js'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { addFlags, readFlags } from './flags.js'
import { onInterrupt } from './interrupt.js'
import { modelFields } from './machine.js'
import { UsageError } from './usage.js'

const set = {
  ...generateOptions,
  schema: lazily((z) =>
    z.object({
      model: option(z.string(), 'Folder of the model, or org/name on the Hub', text('DIR')),
      prompt: option(z.array(z.string()).min(1).optional(), 'Prompt to continue'),
      prompts: option(
        z.string().optional(),
        'File of prompts: rows with prompt, instruction, messages or text, or paragraphs in .txt',
        text('FILE'),
      ),
      documents: option(
        z.enum(['paragraph', 'line']).optional(),
        'Prompts in a .txt file: paragraphs between blank lines (default), or a line each',
      ),
      chat: option(z.boolean().default(false), "Render each prompt with the model's chat template"),
      ...generateOptions.schema().shape,
      ...modelFields(),
      json: option(z.boolean().default(false), 'One JSON completion per line on stdout'),
    }),
  ),
  conflicts: [
    ...generateOptions.conflicts,
    {
      option: 'prompts',
      when: (given) => given('prompt'),
      because: 'cannot be combined with prompt: give one of them',
    },
    {
      option: 'documents',
      when: (given) => !given('prompts'),
      because: 'has an effect on prompts of a .txt file only: leave it out',
    },
  ],
} satisfies OptionSet

/** `posttrain generate --model DIR --prompt TEXT`: completions of prompts, all in one batch. */
export function generateCommand(): Command {
  const command = new Command('generate').description('Generate completions of prompts')
  return addFlags(command, set).action(async () => {
    const { options, given } = await readFlags(command, set)
    if (options.prompt === undefined && options.prompts === undefined) {
      throw new UsageError('generate: --prompt TEXT or --prompts FILE is required')
    }
    const { openModel } = await import('./open-model.js')
    const { generate } = await import('../generate/generate.js')
    const abort = new AbortController()
    const off = onInterrupt(() => abort.abort())
    try {
      await using model = await openModel(options)
      const prompts = options.prompt ?? (await readPrompts(options.prompts!, options.documents))
      const asked = prompts.map(
        (prompt): Prompt =>
          options.chat && typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt,
      )
      const own = Object.keys(generateOptions.schema().shape)
      const sampling = Object.fromEntries(Object.entries(given).filter(([name]) => own.includes(name)))
      const completions = await generate(model, asked, { ...sampling, signal: abort.signal })
      for (const [i, { text, tokenIds, finishReason, logProbs }] of completions.entries()) {
        const line = {
          prompt: prompts[i],
          text,
          finishReason,
          tokenIds: [...tokenIds],
          ...(logProbs && { logProbs: [...logProbs] }),
        }
        process.stdout.write(options.json ? `${JSON.stringify(line)}\n` : `${text}\n`)
      }
    } finally {
      off()
    }
  })
}

/** Prompts from rows of any kind; a final response in a row is left out and generated. */
async function readPrompts(
  path: string,
  documents: Documents | undefined,
): Promise<Exclude<Prompt, Int32Array>[]> {
  const { checkDocuments, readRows } = await import('../data/sources.js')
  const { fieldsOf } = await import('../data/rows/fields.js')
  const { readPrompt } = await import('../data/rows/prompt-rows.js')
  const prompts: Exclude<Prompt, Int32Array>[] = []
  checkDocuments(documents, path)
  for await (const { row, exact = row, origin, failure, note } of readRows(path, { documents })) {
    if (failure) throw failure
    if (note !== undefined) process.stderr.write(`${note}\n`)
    const { text } = fieldsOf(exact, origin)
    // Paragraphs of a .txt file are prompts.
    const asked = typeof text === 'string' ? { text } : readPrompt(exact, origin)
    prompts.push('text' in asked ? asked.text : asked.messages)
  }
  if (prompts.length === 0) throw new PosttrainError('ERR_DATA', `${path} has no prompts`)
  return prompts
}
