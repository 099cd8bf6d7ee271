import { Command } from 'commander'
import type { Documents } from '../data/formats/format.js'
import { unmarked } from '../data/rows/messages.js'
import type { PromptContent } from '../data/rows/prompt-rows.js'
import { PosttrainError } from '../errors.js'
import { generateOptions } from '../generate/options.js'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { addFlags, readFlags } from './flags.js'
import { onInterrupt } from './interrupt.js'
import { modelFields } from './machine.js'
import { UsageError } from './usage.js'
import { visible } from './visible.js'

const sampling = lazily(() => {
  const { template: _, rendered: _rendered, ...sampling } = generateOptions.schema().shape
  return sampling
})

const set = {
  name: 'generate',
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
      ...sampling(),
      template: option(
        z.string().optional(),
        "Template that renders prompts, texts as a user turn; none takes texts raw (default: the model's own chat template; texts are raw on a model without one)",
        text('chat|plain|alpaca|none|FILE.jinja'),
      ),
      rendered: option(
        z.boolean().default(false),
        'Texts are rendered already: marks of special tokens in them are special tokens, and no turn is put around them',
      ),
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
    const { chooseTemplate, encodePrompt } = await import('../data/index.js')
    const abort = new AbortController()
    const off = onInterrupt(() => abort.abort())
    try {
      await using model = await openModel(options)
      const { tokenizer } = model
      const prompts =
        options.prompt?.map((text) => ({ text })) ?? (await readPrompts(options.prompts!, options.documents))
      const chosen = await chooseTemplate(options.template, model)
      const { strings } = chosen
      const template = chosen.template.with({ arguments: options.templateArguments })
      const form = { tokenizer, template, strings, rendered: options.rendered }
      const asked = prompts.map((prompt) => encodePrompt(prompt, form).promptIds)
      const own = Object.fromEntries(
        Object.entries(given).filter(([name]) => name in sampling() && name !== 'templateArguments'),
      )
      const completions = await generate(model, asked, { ...own, signal: abort.signal })
      for (const [i, { text, tokenIds, finishReason, logProbs }] of completions.entries()) {
        const line = {
          prompt: shown(prompts[i]!),
          text,
          finishReason,
          tokenIds: [...tokenIds],
          ...(logProbs && { logProbs: [...logProbs] }),
        }
        const drawn = process.stdout.isTTY ? visible(text, '\n\t') : text
        process.stdout.write(options.json ? `${JSON.stringify(line)}\n` : `${drawn}\n`)
      }
    } finally {
      off()
    }
  })
}

/** A prompt as it was given: a text, or messages. */
const shown = (prompt: PromptContent) => ('text' in prompt ? prompt.text : unmarked(prompt.messages))

/** Prompts from rows of any kind; a final response in a row is left out and generated. */
async function readPrompts(path: string, documents: Documents | undefined): Promise<PromptContent[]> {
  const { checkDocuments, readRows } = await import('../data/sources.js')
  const { dataOf, fieldsOf } = await import('../data/rows/fields.js')
  const { readPrompt } = await import('../data/rows/prompt-rows.js')
  const prompts: PromptContent[] = []
  checkDocuments(documents, path)
  for await (const { row, exact = row, origin, failure, note } of readRows(path, { documents })) {
    if (failure) throw failure
    if (note !== undefined) process.stderr.write(`${visible(note)}\n`)
    const { text, rendered } = fieldsOf(exact, origin)
    if (typeof text === 'string') dataOf(text, 'text', origin)
    // Paragraphs of a .txt file are prompts.
    prompts.push(
      typeof text === 'string'
        ? { text, ...(typeof rendered === 'boolean' && { rendered }) }
        : readPrompt(exact, origin),
    )
  }
  if (prompts.length === 0) throw new PosttrainError('ERR_DATA', `${path} has no prompts`)
  return prompts
}
