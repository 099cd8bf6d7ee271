/** Best evaluation so far, for early stopping; part of a checkpoint. */
export interface EvaluationState {
  bestLoss: number | null
  bestStep: number | null
  /** Evaluations in a row without a lower loss. */
  withoutGain: number
}

export const NO_EVALUATION: EvaluationState = { bestLoss: null, bestStep: null, withoutGain: 0 }

/** The state after one evaluation; a loss that is not finite never counts as lower. */
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
