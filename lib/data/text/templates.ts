import { PosttrainError } from '../../errors.js'
import { Template } from './template.js'

const turnLoop = (user: string, assistant: string) =>
  `{% for message in messages %}{% if message['role'] == 'user' %}${user}` +
  `{% elif message['role'] == 'assistant' %}${assistant}` +
  `{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}`

/** `User: {instruction}\nAssistant: {output}{eos}`, with `\n{input}` after the instruction where a row has one. */
export const plainTemplate: Template = Template.own(
  `${turnLoop(
    "{{ 'User: ' + message['content'] + '\\n' }}",
    "{{ 'Assistant:' }}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{% if not loop.last %}{{ '\\n' }}{% endif %}",
  )}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}`,
  'plain',
)

/** Stanford Alpaca's two prompts, with and without an input. */
export const alpacaTemplate: Template = Template.own(
  `${turnLoop(
    "{% if message['input'] %}{{ 'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\\n\\n### Instruction:\\n' + message['instruction'] + '\\n\\n### Input:\\n' + message['input'] + '\\n\\n' }}" +
      "{% else %}{{ 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\\n\\n### Instruction:\\n' + message['content'] + '\\n\\n' }}{% endif %}",
    "{{ '### Response:\\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}",
  )}{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}`,
  'alpaca',
)

/** A model, or a tokenizer alone, with a chat template. */
export interface TemplateOwner {
  chatTemplate: string | null
  adoptedTemplate?: Template | null
  /** Sources of further templates by their names, such as `tool_use`, of a tokenizer. */
  namedTemplates?: Readonly<Record<string, string>>
  /** The tokenizer of a model. */
  tokenizer?: { namedTemplates: Readonly<Record<string, string>> }
}

/** A template, and whether it takes string prompts. */
export interface ChosenTemplate {
  template: Template
  /** `turn`: string prompts are put in a user turn of the template; `raw`: they are not. */
  strings: 'turn' | 'raw'
  /** The choice that gives the same: `none` where string prompts are raw. */
  name: string
}

/**
 * Finds a template by name, as `templateNamed` does, and decides about string prompts: they are raw with the choice
 * `none`, which renders conversations by the template that is taken without a choice; and where no template was chosen
 * and the model has none.
 */
export async function chooseTemplate(
  choice: string | Template | undefined,
  owner: TemplateOwner,
): Promise<ChosenTemplate> {
  const template = await templateNamed(choice === 'none' ? undefined : choice, owner)
  const has = owner.chatTemplate !== null || (owner.adoptedTemplate ?? null) !== null
  const raw = choice === 'none' || (choice === undefined && !has)
  return { template, strings: raw ? 'raw' : 'turn', name: raw ? 'none' : template.name }
}

/**
 * Finds a template by name: `chat` (the model's own, with its `tool_use` for rows with tools), `plain`, `alpaca`, another
 * of the model's templates by its name, or the path of a .jinja file. Without a name: the one that this model was last
 * trained with, the model's own, else plain.
 */
async function templateNamed(choice: string | Template | undefined, owner: TemplateOwner): Promise<Template> {
  const { chatTemplate, adoptedTemplate } = owner
  const namedTemplates = owner.namedTemplates ?? owner.tokenizer?.namedTemplates ?? {}
  if (choice instanceof Template) return choice
  if (choice === 'plain') return plainTemplate
  if (choice === 'alpaca') return alpacaTemplate
  if (choice === undefined && adoptedTemplate) return adoptedTemplate
  if (choice === undefined || choice === 'chat') {
    if (chatTemplate !== null)
      return Template.fromSource(chatTemplate, 'chat', { toolSource: namedTemplates.tool_use ?? null })
    if (choice === undefined) return plainTemplate
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      "the model has no chat template: use template 'plain', 'alpaca' or a .jinja file",
    )
  }
  const named = Object.hasOwn(namedTemplates, choice) ? namedTemplates[choice] : undefined
  return named === undefined ? await Template.load(choice) : Template.fromSource(named, choice)
}
