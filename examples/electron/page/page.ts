/** The page: a form, a chart and a chat. Its only access to the rest of the app is `window.trainer`. */
import type { Bridge, ChatMessage, Report, TrainChoice } from '../src/protocol.js'
import { Chart } from './chart.js'

declare global {
  interface Window {
    trainer: Bridge
  }
}

const at = <E extends Element = HTMLInputElement>(id: string) => document.getElementById(id) as unknown as E
const [trainButton, abortButton, sendButton] = ['train', 'abort', 'send'].map((id) =>
  at<HTMLButtonElement>(id),
) as [HTMLButtonElement, HTMLButtonElement, HTMLButtonElement]
const chart = new Chart(at<SVGSVGElement>('chart'))

let state: 'idle' | 'training' | 'stopping' | 'answering' = 'idle'
let hasModel = false
let totalSteps = 0
const turns: ChatMessage[] = []

function setState(next: typeof state): void {
  state = next
  trainButton.disabled = state !== 'idle'
  abortButton.disabled = state === 'idle'
  abortButton.textContent = state === 'stopping' ? 'Abort now' : 'Abort'
  const mayAsk = state === 'idle' && hasModel
  sendButton.disabled = !mayAsk
  at('question').disabled = !mayAsk
  if (hasModel) at('question').placeholder = 'Send the trained model a message'
}

const say = (status: string) => {
  at<HTMLElement>('status').textContent = status
}

function log(text: string, kind = ''): void {
  const line = document.createElement('li')
  line.textContent = text
  line.className = kind
  at<HTMLElement>('log').append(line)
  line.scrollIntoView({ block: 'nearest' })
}

function addTurn(turn: ChatMessage): void {
  turns.push(turn)
  const item = document.createElement('li')
  item.className = turn.role
  item.textContent = turn.content
  at<HTMLElement>('turns').append(item)
  item.scrollIntoView({ block: 'nearest' })
}

/** Removes the last message and its empty response. */
function takeBack(): string {
  const [question] = turns.splice(-2)
  for (let i = 0; i < 2; i++) at<HTMLElement>('turns').lastElementChild?.remove()
  return question?.content ?? ''
}

function onReport(report: Report): void {
  switch (report.type) {
    case 'ready':
      break
    case 'start': {
      totalSteps = report.totalSteps
      chart.clear(totalSteps)
      say(`${report.rows} rows, ${totalSteps} steps`)
      const share = `${report.trained.toLocaleString('en')} of ${report.parameters.toLocaleString('en')}`
      at<HTMLElement>('details').textContent = `${share} weights are trainable`
      break
    }
    case 'step':
      chart.step(report.step, report.loss)
      say(`Step ${report.step} of ${totalSteps}: loss ${report.loss.toFixed(4)}`)
      at<HTMLElement>('details').textContent = `${Math.round(report.tokensPerSecond)} tokens a second`
      break
    case 'evaluation':
      chart.validation(report.step, report.loss)
      log(`Step ${report.step}: validation loss ${report.loss.toFixed(4)}`)
      break
    case 'checkpoint':
      log(`Step ${report.step}: saved in ${report.path}`)
      break
    case 'warning':
      log(`Step ${report.step}: ${report.message}`)
      break
    case 'end':
      hasModel = true
      setState('idle')
      say(
        report.reason === 'completed'
          ? `Trained for ${report.steps} steps.`
          : `Aborted${report.steps === null ? '' : ` after step ${report.steps}`}.`,
      )
      if (report.model !== null) log(`The model is in ${report.model}`)
      break
    case 'piece': {
      const turn = turns.at(-1)
      const item = at<HTMLElement>('turns').lastElementChild
      if (turn?.role !== 'assistant' || item === null) break
      turn.content += report.text
      item.textContent = turn.content
      item.scrollIntoView({ block: 'nearest' })
      break
    }
    case 'answered':
      setState('idle')
      at('question').focus()
      break
    case 'error':
      // A message without a response leaves the conversation and can be sent again.
      if (report.during === 'chat' && turns.at(-1)?.content === '') at('question').value = takeBack()
      if (report.during === 'process') hasModel = false
      if (report.during !== 'command') setState('idle')
      if (report.during === 'train') say('Training failed.')
      log(`${report.code}: ${report.message}`, 'error')
      break
    default:
      report satisfies never
  }
}

at<HTMLFormElement>('choice').addEventListener('submit', (event) => {
  event.preventDefault()
  const choice: TrainChoice = {
    model: at('model').value,
    data: at('data').value,
    output: at('output').value,
    resume: at('resume').checked,
    epochs: at('epochs').valueAsNumber,
    batchSize: at('batchSize').valueAsNumber,
    learningRate: at('learningRate').valueAsNumber,
    lora: at('lora').checked,
  }
  hasModel = false
  turns.length = 0
  for (const id of ['log', 'turns']) at<HTMLElement>(id).replaceChildren()
  setState('training')
  say('Reading the model and the data…')
  at<HTMLElement>('details').textContent = '\u00a0'
  window.trainer.send({ type: 'train', choice })
})

abortButton.addEventListener('click', () => {
  const now = state === 'stopping' || state === 'answering'
  window.trainer.send({ type: 'abort', now })
  if (state !== 'training') return
  setState('stopping')
  say('Finishing and saving the current step…')
})

at<HTMLFormElement>('ask').addEventListener('submit', (event) => {
  event.preventDefault()
  addTurn({ role: 'user', content: at('question').value })
  at('question').value = ''
  setState('answering')
  window.trainer.send({ type: 'chat', messages: [...turns] })
  addTurn({ role: 'assistant', content: '' })
})

for (const button of document.querySelectorAll<HTMLButtonElement>('[data-choose]')) {
  const what = button.dataset.choose as 'model' | 'data' | 'output'
  button.addEventListener('click', async () => {
    const path = await window.trainer.choose(what)
    if (path !== null) at(what).value = path
  })
}

window.trainer.onReport(onReport)
setState('idle')
