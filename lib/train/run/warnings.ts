import type {
  EvaluationBase,
  GroupStepEvent,
  PolicyStepEvent,
  PpoStepEvent,
  StepBase,
  WarningCode,
  WarningEvent,
} from './events.js'
import { mean } from './sums.js'

/** What has been seen and said so far; part of a checkpoint, so that a resumed run says the same. */
export interface WatchState {
  /** The first values of each metric, and the latest, oldest first. */
  first: Record<string, number[]>
  latest: Record<string, number[]>
  /** Codes that were said: each is said once. */
  said: WarningCode[]
}

type Values = readonly number[]

/** How far apart the means of two windows are by chance. */
const noiseOf = (a: Values, b: Values) => Math.hypot(standardError(a), standardError(b))

function standardError(values: Values): number {
  const center = mean(values)
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0)
  return Math.sqrt(squares / Math.max(1, values.length - 1) / values.length)
}

/** Keeps the windows of some metrics and tells each code once. */
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

  /** The windows of the beginning and of the present, once they are full and apart; null before. */
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

/** Iterations that make the beginning and the present of a policy's run. */
const ITERATIONS = 5

export interface PolicyWatchOptions {
  maxNewTokens: number
  /** Whether the model knows a token that ends an answer. */
  stops: boolean
  /** Of PPO, where nothing else keeps the scores near 0. */
  valueClip?: number | undefined
}

export type WatchedIteration = PolicyStepEvent &
  Partial<Pick<GroupStepEvent, 'withoutSpread' | 'scoreSpread'> & Pick<PpoStepEvent, 'valueClipFraction'>>

/** Looks at the iterations of PPO, GRPO and RLOO for what commonly goes wrong. */
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

  /** Before the first iteration of a run, and again where it is resumed. */
  begin(step: number): WarningEvent[] {
    if (this.#options.stops) return []
    const message =
      'The model knows no token that ends an answer, so every answer runs into maxNewTokens: name an eos_token in tokenizer_config.json, or take a template whose turns end in a special token'
    return [{ type: 'warning', step, code: 'noStopToken', message }]
  }

  see(event: WatchedIteration): WarningEvent[] {
    const seen: WarningEvent[] = []
    const { step, score, kl, responseLength, entropy, stoppedFraction } = event
    const { withoutSpread, scoreSpread, valueClipFraction } = event
    const { maxNewTokens, stops, valueClip } = this.#options
    const watch = this.#watch
    // RLOO's rewards differ by their KL alone where its scores agree.
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

    // A long answer may be further away: what is too far is the more of 10 nats and a quarter of a nat a token.
    const farAway = Math.max(10, 0.25 * responseLength)
    watch.tell(
      seen,
      step,
      'klExplodes',
      away !== null && away.now > Math.max(farAway, 2 * away.first),
      () => {
        const better = rewards !== null && rewards.now > rewards.first ? ' while the score rises' : ''
        return `The policy runs away from its reference: ${away!.now.toFixed(1)} nats of KL an answer${better}; read some samples (it may have found a hole in the reward), raise klCoef, lower the learning rate, or set a limit (kl.limit of ppo, klLimit of grpo and rloo)`
      },
    )
    // Answers that all ran into the limit get shorter as they learn to end: that is no trouble before hardly one is left.
    const ended = (change('stoppedFraction')?.first ?? 0) >= 0.5
    const shrunk = length !== null && length.now < (ended ? 0.5 : 0.1) * length.first
    watch.tell(seen, step, 'responsesShrink', shrunk, () => {
      return `Answers shrink: ${length!.now.toFixed(1)} tokens on average, ${length!.first.toFixed(1)} at the beginning; the reward may favour short ones, or the KL penalty, which grows with every token, outweighs it`
    })
    const truncated = stops && lately('stoppedFraction', (share) => share < 0.5)
    watch.tell(seen, step, 'responsesTruncated', truncated, () => {
      return `Most answers run into maxNewTokens (${maxNewTokens}) instead of ending: raise it, take something off the reward of those (missingEosPenalty of ppo, overlongTokens of grpo), or fine-tune the model on answers that end first`
    })
    const collapsed = spread !== null && spread.now < 0.1 * spread.first && spread.now < 0.2
    watch.tell(seen, step, 'entropyCollapse', collapsed, () => {
      return `The policy says nearly the same every time: entropy ${spread!.now.toFixed(3)} nats a token, ${spread!.first.toFixed(3)} at the beginning; lower the learning rate, raise klCoef, or give an entropyCoef (ppo)`
    })
    const nothing = lately('flat', (value) => value === 1)
    watch.tell(seen, step, 'noSpread', nothing, () => {
      const anyMore = watch.state.first.flat!.some((value) => value === 0) ? ' any more' : ''
      return `All answers to a prompt earn the same, in every group of the last ${ITERATIONS} iterations, so there is nothing to learn${anyMore}: the task is too easy or too hard for the model, or the reward is too coarse; raise the temperature or groupSize, or take other prompts`
    })
    const bounded = valueClip !== undefined && lately('farAndClipped', (value) => value === 1)
    watch.tell(seen, step, 'valueClip', bounded, () => {
      return `Scores are far from ±1 (mean ${score.toFixed(1)}) and the critic, whose change in an iteration is bounded by valueClip ${valueClip}, needs many iterations to reach them: set scoreNormalize, scale the reward, or raise valueClip`
    })
    return seen
  }
}

/** Steps that make the beginning of a supervised run: few, since most falls in its first steps. */
const BEGINNING = 10

/** Steps of it before its loss is first looked at. */
const lookAt = (totalSteps: number) => Math.max(60, Math.min(200, Math.floor(totalSteps / 2)))

/** Looks at the steps and evaluations of recipes that learn from given rows. */
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
    // Each further look would be one more chance to be fooled by noise: few of them, each twice as late as the last.
    const due = Number.isInteger(Math.log2(step / look)) && step >= look && !warmingUp
    const losses = due ? watch.windows('loss', { first: BEGINNING, now: window }, step) : null
    watch.tell(seen, step, 'lossNotFalling', losses !== null && isFlat(losses), () => {
      return `The loss does not fall: ${mean(losses!.now).toPrecision(4)} over the last ${window} steps, ${mean(losses!.first).toPrecision(4)} over the first ones; try a learning rate 3 to 10 times higher (or lower, if it rises), and look at some rows with posttrain inspect`
    })
    // Pairs of other lengths come by in each step, so nats a token are compared.
    const chosen = watch.windows('chosen', { first: BEGINNING, now: BEGINNING }, step)
    const fallen = chosen === null ? 0 : mean(chosen.first) - mean(chosen.now)
    const certain = chosen !== null && fallen > 3 * noiseOf(chosen.first, chosen.now)
    watch.tell(seen, step, 'chosenFalls', certain && fallen > 0.3, () => {
      return `The better answers themselves become less likely, by ${fallen.toFixed(2)} nats a token: the model may drift to a third kind of answer; lower the learning rate, raise beta, or add sftCoef`
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
    // In a plateau it goes up and down by less than this.
    const rises = c !== undefined && a! < b! && b! < c && c - a! > 0.01 * Math.abs(a!)
    const falls = first.loss !== undefined && mean(latest.loss!.slice(-5)) < mean(first.loss.slice(0, 5))
    watch.tell(seen, event.step, 'validationRises', rises && falls, () => {
      return `The validation loss rises (${now.map((loss) => loss.toPrecision(4)).join(', ')}) while the training loss falls: the model learns the rows by heart; stop earlier (earlyStopping), train fewer epochs, or add data`
    })
    return seen
  }
}

/** Has fallen by less than 2 % and by no more than the noise of its batches; what is learnt already cannot fall. */
function isFlat({ first, now }: { first: Values; now: Values }): boolean {
  const fallen = mean(first) - mean(now)
  return mean(first) > 0.05 && fallen < 0.02 * mean(first) && fallen <= noiseOf(first, now)
}
