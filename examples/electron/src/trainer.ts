/** Trains and chats for the other end of a port, independent of Electron. */
import { CausalLM, chat, type Run, sft, type TrainEvent } from 'posttrain'
import { type ChatMessage, isCommand, type Port, type Report, type TrainChoice } from './protocol.js'

type During = Extract<Report, { type: 'error' }>['during']

/** Converts an error to data: the code of an Error would be lost between processes. */
export function errorReport(during: During, error: unknown): Report {
  const { code = 'ERR_INTERNAL', message } =
    error instanceof Error ? (error as Error & { code?: string }) : { message: String(error) }
  return { type: 'error', during, code, message }
}

const wasAborted = (error: unknown) => (error as { code?: unknown } | null)?.code === 'ABORT_ERR'

/** Converts an event to a report for the page; null for events that it does not show. */
function reportOf(event: TrainEvent): Report | null {
  const { step } = event as { step: number }
  switch (event.type) {
    case 'start': {
      const { totalSteps, parameters, trainableParameters: trained, report } = event
      return { type: 'start', step, totalSteps, rows: report.rows, trained, parameters }
    }
    case 'step':
      return { type: 'step', step, loss: event.loss, tokensPerSecond: event.tokensPerSecond }
    case 'evaluation':
      return { type: 'evaluation', step, loss: event.loss }
    case 'checkpoint':
      return { type: 'checkpoint', step, path: event.path }
    case 'warning':
      return { type: 'warning', step, message: event.message }
    case 'epoch':
    case 'sample':
    case 'end':
      return null
    default:
      return event satisfies never
  }
}

/** Serves commands until `quit`; settles once the current task has ended and the model's memory is freed. */
export function serve(port: Port<unknown, Report>): Promise<void> {
  let model: CausalLM | null = null
  let work: { stop: (now: boolean) => void; done: Promise<void> } | null = null
  const tell = (report: Report) => port.postMessage(report)

  async function train(choice: TrainChoice, signal: AbortSignal, onRun: (run: Run) => void): Promise<void> {
    const { lora, model: source, ...options } = choice
    await model?.dispose()
    model = null
    model = await CausalLM.load(source, { signal })
    const run = sft({
      ...options,
      model,
      signal,
      validation: { fraction: 0.1 },
      ...(lora && { lora: {} }),
    })
    onRun(run)
    for await (const event of run) {
      const report = reportOf(event)
      if (report) tell(report)
    }
    const { reason, steps, model: folder = null } = await run.finish()
    tell({ type: 'end', reason: reason === 'stopped' ? 'aborted' : 'completed', steps, model: folder })
  }

  async function respond(messages: ChatMessage[], signal: AbortSignal): Promise<void> {
    if (model === null) throw new Error('No model is loaded: train one first.')
    for await (const { text } of chat(model, messages, { maxNewTokens: 256, signal }))
      tell({ type: 'piece', text })
    tell({ type: 'answered' })
  }

  /** Starts one task at a time. A run stops after its current step, everything else at once. */
  function begin(
    during: 'train' | 'chat',
    task: (signal: AbortSignal, onRun: (run: Run) => void) => Promise<void>,
  ) {
    if (work !== null) {
      tell(errorReport(during, new Error('The trainer is busy: abort its task, or wait for it to end.')))
      return
    }
    const now = new AbortController()
    let run: Run | null = null
    const attempt = task(now.signal, (started) => {
      run = started
    })
    const failed = (error: unknown) => {
      if (!wasAborted(error)) tell(errorReport(during, error))
      else if (during === 'chat') tell({ type: 'answered' })
      else tell({ type: 'end', reason: 'aborted', steps: null, model: null })
    }
    const done = attempt.catch(failed).finally(() => {
      work = null
    })
    work = { stop: (drop) => (drop || run === null ? now.abort() : run.stop()), done }
  }

  return new Promise((quit) => {
    port.on('message', (message) => {
      if (!isCommand(message)) {
        tell(errorReport('command', new TypeError(`not a command: ${JSON.stringify(message)}`)))
        return
      }
      switch (message.type) {
        case 'train':
          begin('train', (signal, onRun) => train(message.choice, signal, onRun))
          break
        case 'chat':
          begin('chat', (signal) => respond(message.messages, signal))
          break
        case 'abort':
          work?.stop(message.now)
          break
        case 'quit':
          work?.stop(false)
          quit(Promise.resolve(work?.done).then(() => model?.dispose()))
          break
        default:
          message satisfies never
      }
    })
    tell({ type: 'ready' })
  })
}
