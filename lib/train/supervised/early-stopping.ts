/** The evaluations so far; part of a checkpoint. */
export interface EvaluationState {
  bestLoss: number | null
  bestStep: number | null
  /** Evaluations in a row that were not better. */
  withoutGain: number
}

export const NO_EVALUATION: EvaluationState = { bestLoss: null, bestStep: null, withoutGain: 0 }

/** Takes in the loss of one evaluation; a loss that is not a number is never better. */
export function afterEvaluation(
  state: EvaluationState,
  evaluation: { step: number; loss: number },
  minDelta: number,
): EvaluationState {
  const better =
    Number.isFinite(evaluation.loss) &&
    (state.bestLoss === null || evaluation.loss < state.bestLoss - minDelta)
  return better
    ? { bestLoss: evaluation.loss, bestStep: evaluation.step, withoutGain: 0 }
    : { ...state, withoutGain: state.withoutGain + 1 }
}
