import { chooseTemplate } from '../data/index.js'
import { AbortError, PosttrainError } from '../errors.js'
import { generate } from '../generate/generate.js'
import { CausalLM } from '../models/causal-lm.js'
import { type Question, type Reply, type Teacher, TeacherFailure } from './teacher.js'

interface Waiting {
  question: Question
  signal: AbortSignal
  resolve: (reply: Reply) => void
  reject: (error: unknown) => void
}

/** Opens a model in this process as teacher, prompted through its chat template; waiting questions are batched. */
export async function openLocalModel(
  model: string | CausalLM,
  batchSize: number,
  signal: AbortSignal,
): Promise<Teacher> {
  const own = typeof model === 'string'
  const teacher = own ? await CausalLM.load(model, { signal }) : model
  if (teacher.chatTemplate === null) {
    if (own) await teacher.dispose()
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `distill: ${own ? model : 'the model'} has no chat template, so it cannot be prompted: use a chat model`,
    )
  }
  const batches = new Batches(teacher, batchSize)
  return {
    name: own ? model : 'the model given',
    temperature: 0.7,
    repeats: true,
    ask: (question, asked) => batches.ask(question, asked),
    close: async () => {
      if (own) await teacher.dispose()
    },
  }
}

/** Collects waiting questions and generates their answers in one batch. */
class Batches {
  readonly #model: CausalLM
  readonly #size: number
  #waiting: Waiting[] = []
  #running = false

  constructor(model: CausalLM, size: number) {
    this.#model = model
    this.#size = size
  }

  ask(question: Question, signal: AbortSignal): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ question, signal, resolve, reject })
      if (!this.#running) void this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#waiting.length > 0) {
      // Callers just answered ask their next question in this turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve))
      const { temperature } = this.#waiting[0]!.question
      const batch = this.#waiting.filter(({ question }) => question.temperature === temperature)
      batch.splice(this.#size)
      this.#waiting = this.#waiting.filter((item) => !batch.includes(item))
      await this.#answer(batch)
    }
    this.#running = false
  }

  async #answer(batch: readonly Waiting[]): Promise<void> {
    const { question, signal } = batch[0]!
    const { temperature = 0, seed, maxNewTokens } = question
    try {
      const { template } = await chooseTemplate(undefined, this.#model)
      const completions = await generate(
        this.#model,
        batch.map(({ question: { messages, templateArguments } }) =>
          template.promptIds({ messages: [...messages], templateArguments }, this.#model.tokenizer),
        ),
        { maxNewTokens, temperature, ...(temperature > 0 && { seed }), signal },
      )
      for (const [i, { text, tokenIds, finishReason }] of completions.entries()) {
        batch[i]!.resolve({ text, finish: finishReason, promptTokens: 0, completionTokens: tokenIds.length })
      }
    } catch (error) {
      const refused =
        error instanceof PosttrainError && ['ERR_INVALID_ARGUMENT', 'ERR_DATA'].includes(error.code)
      if (!refused || error instanceof AbortError) for (const { reject } of batch) reject(error)
      else if (batch.length === 1) batch[0]!.reject(new TeacherFailure('request', error.message))
      // One prompt that is too long must not fail the others.
      else for (const item of batch) await this.#answer([item])
    }
  }
}
