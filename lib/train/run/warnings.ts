import { lazily } from '../../options/zod.js'
import {
  type EvaluationBase,
  type GroupStepEvent,
  type PolicyStepEvent,
  type PpoStepEvent,
  type StepBase,
  WARNING_CODES,
  type WarningCode,
  type WarningEvent,
} from './events.js'
import { mean } from './sums.js'

/** Metric windows and warnings already issued; part of a checkpoint, so that a resumed run issues the same. */
export interface WatchState {
  /** The first and the latest values of each metric, oldest first. */
  first: Record<string, number[]>
  latest: Record<string, number[]>
  /** Codes already issued: each is issued once. */
  said: WarningCode[]
}

/** Schema of WatchState in a checkpoint. */
export const watchState = lazily((z) =>
  z.strictObject({
    first: z.record(z.string(), z.array(z.number())),
    latest: z.record(z.string(), z.array(z.number())),
    said: z.array(z.enum(WARNING_CODES)),
  }),
)

type Values = readonly number[]

/** Standard error of the difference between the means of two windows. */
const noiseOf = (a: Values, b: Values) => Math.hypot(standardError(a), standardError(b))

function standardError(values: Values): number {
  const center = mean(values)
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0)
  return Math.sqrt(squares / Math.max(1, values.length - 1) / values.length)
}

/** Keeps windows of metrics and issues each warning once. */
class Watch {
  state: WatchState

  constructor(state: WatchState) {
    this.state = structuredClone(state)
  }

  push(values: Record<string, number | undefined>, window: number): void {
    const { first, latest } = this.state
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined || !Number.isFinite(value)) continue
      const begun = first[name] ?? []
      if (begun.length < window) first[name] = [...begun, value]
      latest[name] = [...(latest[name] ?? []), value].slice(-window)
    }
  }

  /** The first and the latest values, once both windows are full and do not overlap; null before. */
  windows(
    name: string,
    size: { first: number; now: number },
    steps: number,
  ): { first: Values; now: Values } | null {
    const first = (this.state.first[name] ?? []).slice(0, size.first)
    const now = (this.state.latest[name] ?? []).slice(-size.now)
    const whole = first.length === size.first && now.length === size.now
    return whole && steps >= size.first + size.now ? { first, now } : null
  }

  tell(seen: WarningEvent[], step: number, code: WarningCode, when: boolean, message: () => string): void {
    if (!when || this.state.said.includes(code)) return
    this.state.said.push(code)
    seen.push({ type: 'warning', step, code, message: message() })
  }
}

const START: WatchState = { first: {}, latest: {}, said: [] }

/** Window length of policy runs, in iterations. */
const ITERATIONS = 5

export interface PolicyWatchOptions {
  maxNewTokens: number
  /** Whether the model has a stop token. */
  stops: boolean
  /** `valueClip` of PPO, if nothing else keeps the scores near 0. */
  valueClip?: number | undefined
}

export type WatchedIteration = PolicyStepEvent &
  Partial<Pick<GroupStepEvent, 'withoutSpread' | 'scoreSpread'> & Pick<PpoStepEvent, 'valueClipFraction'>>

/** Checks the iterations of PPO, GRPO and RLOO for common problems. */
export class PolicyWatch {
  static readonly start = START
  readonly #watch: Watch
  readonly #options: PolicyWatchOptions

  constructor(state: WatchState, options: PolicyWatchOptions) {
    this.#watch = new Watch(state)
    this.#options = options
  }

  get state(): WatchState {
    return this.#watch.state
  }

  /** Warnings before the first iteration, and after a resume. */
  begin(step: number): WarningEvent[] {
    if (this.#options.stops) return []
    const message =
      'The model has no stop token, so every response is truncated at maxNewTokens: set an eos_token in tokenizer_config.json, or use a template whose turns end in a special token'
    return [{ type: 'warning', step, code: 'noStopToken', message }]
  }

  see(event: WatchedIteration): WarningEvent[] {
    const seen: WarningEvent[] = []
    const { step, score, kl, responseLength, entropy, stoppedFraction } = event
    const { withoutSpread, scoreSpread, valueClipFraction } = event
    const { maxNewTokens, stops, valueClip } = this.#options
    const watch = this.#watch
    // With equal scores, RLOO's rewards still differ by their KL.
    const flat = withoutSpread === undefined ? undefined : Number(withoutSpread === 1 || scoreSpread === 0)
    const farAndClipped = Math.abs(score) > 5 && (valueClipFraction ?? 0) > 0.1
    const values = { score, kl, responseLength, entropy, stoppedFraction, flat }
    watch.push({ ...values, farAndClipped: Number(farAndClipped) }, ITERATIONS)
    const change = (name: string) => {
      const windows = watch.windows(name, { first: ITERATIONS, now: ITERATIONS }, step)
      return windows && { first: mean(windows.first), now: mean(windows.now) }
    }
    const lately = (name: string, holds: (value: number) => boolean) => {
      const latest = watch.state.latest[name] ?? []
      return latest.length === ITERATIONS && latest.every(holds)
    }
    const [length, spread, rewards, away] = [
      change('responseLength'),
      change('entropy'),
      change('score'),
      change('kl'),
    ]

    // KL grows with length: the threshold is 10 nats or a quarter of a nat per token, whichever is more.
    const farAway = Math.max(10, 0.25 * responseLength)
    watch.tell(
      seen,
      step,
      'klExplodes',
      away !== null && away.now > Math.max(farAway, 2 * away.first),
      () => {
        const rising = rewards !== null && rewards.now > rewards.first ? ' while the score rises' : ''
        return `The policy drifts far from its reference: ${away!.now.toFixed(1)} nats of KL per response${rising}; read some samples (it may exploit the reward), raise klCoef, lower the learning rate, or set a limit (kl.limit of ppo, klLimit of grpo and rloo)`
      },
    )
    // Truncated responses get shorter as the policy learns to end them: a problem only below a tenth of the length.
    const ended = (change('stoppedFraction')?.first ?? 0) >= 0.5
    const shrunk = length !== null && length.now < (ended ? 0.5 : 0.1) * length.first
    watch.tell(seen, step, 'responsesShrink', shrunk, () => {
      return `Responses shrink: ${length!.now.toFixed(1)} tokens on average, ${length!.first.toFixed(1)} at the start; the reward may favor short ones, or the KL penalty, which grows with every token, outweighs it`
    })
    const truncated = stops && lately('stoppedFraction', (share) => share < 0.5)
    watch.tell(seen, step, 'responsesTruncated', truncated, () => {
      return `Most responses are truncated at maxNewTokens (${maxNewTokens}): raise it, penalize truncated responses (missingEosPenalty of ppo, overlongTokens of grpo), or first fine-tune the model on responses that end`
    })
    const collapsed = spread !== null && spread.now < 0.1 * spread.first && spread.now < 0.2
    watch.tell(seen, step, 'entropyCollapse', collapsed, () => {
      return `The entropy of the policy collapses: ${spread!.now.toFixed(3)} nats per token, ${spread!.first.toFixed(3)} at the start; lower the learning rate, raise klCoef, or set entropyCoef (ppo)`
    })
    const nothing = lately('flat', (value) => value === 1)
    watch.tell(seen, step, 'noSpread', nothing, () => {
      const anyMore = watch.state.first.flat!.some((value) => value === 0) ? ' any more' : ''
      return `Rewards are equal within every group of the last ${ITERATIONS} iterations, so there is nothing to learn${anyMore}: the task is too easy or too hard for the model, or the reward is too coarse; raise the temperature or groupSize, or use other prompts`
    })
    const bounded = valueClip !== undefined && lately('farAndClipped', (value) => value === 1)
    watch.tell(seen, step, 'valueClip', bounded, () => {
      return `Scores are far from ±1 (mean ${score.toFixed(1)}) and the critic needs many iterations to reach them, since valueClip ${valueClip} bounds its change in each: set scoreNormalize, scale the reward, or raise valueClip`
    })
    return seen
  }
}

/** First steps of a supervised run that later losses are compared with: few, since the loss falls fastest there. */
const BEGINNING = 10

/** Step at which the loss is first checked. */
const lookAt = (totalSteps: number) => Math.max(60, Math.min(200, Math.floor(totalSteps / 2)))

/** Checks the steps and evaluations of supervised recipes for common problems. */
export class SupervisedWatch {
  static readonly start = START
  readonly #watch: Watch

  constructor(state: WatchState) {
    this.#watch = new Watch(state)
  }

  get state(): WatchState {
    return this.#watch.state
  }

  step(
    event: StepBase & { chosenLogProb?: number; chosenLength?: number },
    totalSteps: number,
  ): WarningEvent[] {
    const seen: WarningEvent[] = []
    const { step, loss, learningRate, chosenLogProb, chosenLength } = event
    const watch = this.#watch
    const look = lookAt(totalSteps)
    const window = Math.floor(look / 3)
    const warmingUp = learningRate > (watch.state.latest.learningRate?.at(-1) ?? learningRate)
    watch.push({ learningRate }, 1)
    if (event.skipped === undefined) {
      const perToken = chosenLength && chosenLogProb !== undefined ? chosenLogProb / chosenLength : undefined
      watch.push({ loss, chosen: perToken }, window)
    }
    // Every check is a chance of a false alarm by noise: few of them, each twice as late as the last.
    const due = Number.isInteger(Math.log2(step / look)) && step >= look && !warmingUp
    const losses = due ? watch.windows('loss', { first: BEGINNING, now: window }, step) : null
    watch.tell(seen, step, 'lossNotFalling', losses !== null && isFlat(losses), () => {
      return `The loss does not fall: ${mean(losses!.now).toPrecision(4)} over the last ${window} steps, ${mean(losses!.first).toPrecision(4)} over the first ${BEGINNING}; try a learning rate 3 to 10 times higher (or lower, if it rises), and look at some rows with posttrain inspect`
    })
    // Lengths differ between steps, so nats per token are compared.
    const chosen = watch.windows('chosen', { first: BEGINNING, now: BEGINNING }, step)
    const fallen = chosen === null ? 0 : mean(chosen.first) - mean(chosen.now)
    const certain = chosen !== null && fallen > 3 * noiseOf(chosen.first, chosen.now)
    watch.tell(seen, step, 'chosenFalls', certain && fallen > 0.3, () => {
      return `The chosen responses become less likely, by ${fallen.toFixed(2)} nats per token: the model may move to responses that are neither chosen nor rejected; lower the learning rate, raise beta, or set sftCoef`
    })
    return seen
  }

  evaluation(event: EvaluationBase): WarningEvent[] {
    const seen: WarningEvent[] = []
    const watch = this.#watch
    const { first, latest } = watch.state
    watch.push({ validation: event.loss }, 3)
    const now = latest.validation ?? []
    const [a, b, c] = now
    // Noise on a plateau is smaller than this.
    const rises = c !== undefined && a! < b! && b! < c && c - a! > 0.01 * Math.abs(a!)
    const falls = first.loss !== undefined && mean(latest.loss!.slice(-5)) < mean(first.loss.slice(0, 5))
    watch.tell(seen, event.step, 'validationRises', rises && falls, () => {
      return `The validation loss rises (${now.map((loss) => loss.toPrecision(4)).join(', ')}) while the training loss falls: the model overfits; stop earlier (earlyStopping), train fewer epochs, or add data`
    })
    return seen
  }
}

/** Whether the loss fell by less than 2 % and within the noise of its batches; a loss near 0 cannot fall. */
function isFlat({ first, now }: { first: Values; now: Values }): boolean {
  const fallen = mean(first) - mean(now)
  return mean(first) > 0.05 && fallen < 0.02 * mean(first) && fallen <= noiseOf(first, now)
}

/** Message for rows whose texts have marks of special tokens in them. */
export function unreadMarks(rows: number): string {
  const those = rows === 1 ? '1 row has' : `${rows} rows have`
  return `${those} marks of special tokens in texts, which were read as text: if the texts are rendered already, say so with rendered: true (an option, or a column of the row)`
}
