import type { EvaluationBase, PolicyStepEvent, StepBase, WarningCode, WarningEvent } from './events.js'

/** What has been seen and said so far; part of a checkpoint, so that a resumed run says the same. */
export interface WatchState {
  /** The first values of each metric, and the latest, oldest first. */
  first: Record<string, number[]>
  latest: Record<string, number[]>
  /** Codes that were said: each is said once. */
  said: WarningCode[]
}

/** Values of one metric that make its beginning, and its present. */
const WINDOW = 5

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

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
      first[name] = begun.length < window ? [...begun, value] : begun
      latest[name] = [...(latest[name] ?? []), value].slice(-window)
    }
  }

  /** Means of the beginning and of the present, once they are apart; null before. */
  change(name: string, window: number, steps: number): { first: number; now: number } | null {
    const first = this.state.first[name] ?? []
    const latest = this.state.latest[name] ?? []
    if (first.length < window || latest.length < window || steps < 2 * window) return null
    return { first: mean(first), now: mean(latest) }
  }

  every(name: string, holds: (value: number) => boolean): boolean {
    const latest = this.state.latest[name] ?? []
    return latest.length === WINDOW && latest.every(holds)
  }

  tell(seen: WarningEvent[], step: number, code: WarningCode, when: boolean, message: () => string): void {
    if (!when || this.state.said.includes(code)) return
    this.state.said.push(code)
    seen.push({ type: 'warning', step, code, message: message() })
  }
}

const START: WatchState = { first: {}, latest: {}, said: [] }

/** Looks at the iterations of PPO, GRPO and RLOO for what commonly goes wrong. */
export class PolicyWatch {
  static readonly start = START
  readonly #watch: Watch
  readonly #options: { maxNewTokens: number; valueClip?: number }

  constructor(state: WatchState, options: { maxNewTokens: number; valueClip?: number }) {
    this.#watch = new Watch(state)
    this.#options = options
  }

  get state(): WatchState {
    return this.#watch.state
  }

  see(event: PolicyStepEvent & { withoutSpread?: number }): WarningEvent[] {
    const seen: WarningEvent[] = []
    const { step, score, kl, responseLength, entropy, stoppedFraction, withoutSpread } = event
    const watch = this.#watch
    watch.push({ score, kl, responseLength, entropy, stoppedFraction, withoutSpread }, WINDOW)
    const change = (name: string) => watch.change(name, WINDOW, step)
    const [length, spread, rewards] = [change('responseLength'), change('entropy'), change('score')]

    const away = change('kl')
    watch.tell(seen, step, 'klExplodes', away !== null && away.now > 10 && away.now > 2 * away.first, () => {
      const better = rewards !== null && rewards.now > rewards.first ? ' while the score rises' : ''
      return `The policy runs away from its reference: ${away!.now.toFixed(1)} nats of KL an answer${better}; read some samples (it may have found a hole in the reward), raise klCoef, lower the learning rate, or set kl.limit`
    })
    watch.tell(seen, step, 'responsesShrink', length !== null && length.now < 0.5 * length.first, () => {
      return `Answers shrink: ${length!.now.toFixed(1)} tokens on average, ${length!.first.toFixed(1)} at the beginning; the reward may favour short ones, or the KL penalty grows with their length`
    })
    watch.tell(
      seen,
      step,
      'responsesTruncated',
      watch.every('stoppedFraction', (share) => share < 0.5),
      () => {
        return `Most answers run into maxNewTokens (${this.#options.maxNewTokens}) instead of ending: raise it, set missingEosPenalty or overlongTokens, or fine-tune the model on answers that end first`
      },
    )
    watch.tell(
      seen,
      step,
      'entropyCollapse',
      spread !== null && spread.now < 0.1 * spread.first && spread.now < 0.2,
      () => {
        return `The policy says nearly the same every time: entropy ${spread!.now.toFixed(3)} nats a token, ${spread!.first.toFixed(3)} at the beginning; lower the learning rate, raise klCoef, or give an entropyCoef`
      },
    )
    watch.tell(
      seen,
      step,
      'noSpread',
      watch.every('withoutSpread', (share) => share === 1),
      () => {
        return 'All answers to a prompt earn the same, in every group, so there is nothing to learn: the task is too easy or too hard for the model, or the reward is too coarse; raise the temperature or groupSize, or take other prompts'
      },
    )
    const { valueClip } = this.#options
    const far = Math.abs(score) > 5
    watch.tell(seen, step, 'valueClip', valueClip !== undefined && far, () => {
      return `Scores are far from ±1 (mean ${score.toFixed(1)}), so the critic, whose change in an iteration is bounded by valueClip ${valueClip}, needs many iterations to reach them: set scoreNormalize, scale the reward, or raise valueClip`
    })
    return seen
  }
}

/** Steps that make the beginning and the present of a supervised run. */
const STEPS = 10

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
    event: StepBase & { chosenReward?: number; rejectedReward?: number },
    totalSteps: number,
  ): WarningEvent[] {
    const seen: WarningEvent[] = []
    const { step, loss, chosenReward } = event
    const watch = this.#watch
    if (event.skipped === undefined) watch.push({ loss, chosenReward }, STEPS)
    const losses = watch.change('loss', STEPS, step)
    // A tenth of a long run is long enough to see; a short one is looked at near its end.
    const late = step >= Math.max(3 * STEPS, Math.min(200, totalSteps / 2))
    watch.tell(
      seen,
      step,
      'lossNotFalling',
      late && losses !== null && losses.now > 0.99 * losses.first,
      () => {
        return `The loss does not fall: ${losses!.now.toPrecision(4)} over the last steps, ${losses!.first.toPrecision(4)} over the first ones; try a learning rate 3 to 10 times higher (or lower, if it rises), and look at some rows with posttrain inspect`
      },
    )
    const chosen = watch.change('chosenReward', STEPS, step)
    watch.tell(seen, step, 'chosenFalls', chosen !== null && chosen.now < -0.5, () => {
      return `The better answers themselves become less likely (implicit reward ${chosen!.now.toFixed(2)}): the model may drift to a third kind of answer; lower the learning rate, raise beta, or add sftCoef`
    })
    return seen
  }

  evaluation(event: EvaluationBase): WarningEvent[] {
    const seen: WarningEvent[] = []
    const watch = this.#watch
    const { first, latest } = watch.state
    watch.push({ validation: event.loss }, 3)
    const now = latest.validation ?? []
    const rises = now.length === 3 && now[0]! < now[1]! && now[1]! < now[2]!
    const trained =
      first.loss !== undefined && latest.loss !== undefined && mean(latest.loss) < mean(first.loss)
    watch.tell(seen, event.step, 'validationRises', rises && trained, () => {
      return `The validation loss rises (${now.map((loss) => loss.toPrecision(4)).join(', ')}) while the training loss falls: the model learns the rows by heart; stop earlier (earlyStopping), train fewer epochs, or add data`
    })
    return seen
  }
}
