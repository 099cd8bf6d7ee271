/** A loss of preference pairs: its needs, the defaults of the options it reads, and one line of help. */
export interface PairLoss {
  text: string
  /** Uses no reference model. */
  referenceFree?: true
  /** Divides log-probabilities by the lengths of the responses in tokens. */
  lengths?: true
  beta: number
  /** Assumed share of pairs in the wrong order; absent where the loss does not read it. */
  labelSmoothing?: number
  /** Target margin; absent where the loss does not read it. */
  gamma?: number
  /** Weight of the penalty on chosen responses less likely than under the reference; absent where not read. */
  lambda?: number
  /** Weight of the cross-entropy of the chosen responses that `dpo` adds to the loss; 0 where absent. */
  sftCoef?: number
}

/**
 * The losses of preference pairs: names, option schema, conflicts, defaults and help derive from this table. Formulas
 * and sources are in native/losses/preference.h and preference.cpp, with the same names, needs and defaults;
 * test/losses/pair-losses.test.ts compares the two.
 */
export const PAIR_LOSSES = {
  sigmoid: { beta: 0.1, text: 'DPO' },
  sigmoidNorm: { lengths: true, beta: 0.1, text: 'DPO on log-ratios per token' },
  hinge: { beta: 0.1, text: 'SLiC: hinge loss, 0 for pairs beyond a margin' },
  ipo: { lengths: true, beta: 0.1, text: 'IPO: squared distance of log-ratios per token from a margin' },
  robust: { beta: 0.1, labelSmoothing: 0, text: 'DPO, unbiased where some pairs are in the wrong order' },
  cdpo: { beta: 0.1, labelSmoothing: 0, text: 'Conservative DPO, where some pairs are in the wrong order' },
  bco: { beta: 0.1, text: 'BCO: binary classification of each response' },
  sppo: { beta: 0.1, text: 'SPPO: squared distance of each log-ratio from its target' },
  nca: { beta: 0.1, text: 'NCA: raises the chosen log-probability itself' },
  apoZero: { beta: 0.1, text: 'APO-zero: raises chosen and lowers rejected responses' },
  apoDown: { beta: 0.1, text: 'APO-down: lowers both, for a model better than the chosen responses' },
  exo: { beta: 0.1, labelSmoothing: 1e-3, text: 'EXO: reverse KL to the preferences' },
  discopop: { beta: 0.1, text: 'DiscoPOP: a blend of logistic and exponential loss' },
  dpop: {
    beta: 0.1,
    lambda: 50,
    text: 'DPO-Positive: keeps chosen responses as likely as under the reference',
  },
  simpo: { referenceFree: true, lengths: true, beta: 2, gamma: 1, text: 'SimPO: mean log-probabilities' },
  orpo: { referenceFree: true, lengths: true, beta: 0.1, text: 'ORPO: cross-entropy plus odds ratio' },
  cpo: {
    referenceFree: true,
    beta: 0.1,
    sftCoef: 1,
    text: 'CPO: DPO without a reference, plus cross-entropy',
  },
} as const satisfies Record<string, PairLoss>

/** Name of a loss of preference pairs. */
export type PairLossName = keyof typeof PAIR_LOSSES

export const PAIR_LOSS_NAMES = Object.keys(PAIR_LOSSES) as readonly PairLossName[]

/** The options that some pair losses read and others do not. */
type Read = 'labelSmoothing' | 'gamma' | 'lambda'
/** The options of pair losses that have a default. */
type Numbers = Read | 'beta' | 'sftCoef'

export const pairLoss = (name: PairLossName): PairLoss => PAIR_LOSSES[name]

/** Lists the losses that read an option. */
export const lossesReading = (option: Read): PairLossName[] =>
  PAIR_LOSS_NAMES.filter((name) => pairLoss(name)[option] !== undefined)

export const referenceFreeLosses: readonly PairLossName[] = PAIR_LOSS_NAMES.filter(
  (name) => pairLoss(name).referenceFree,
)

/** The options of a loss with its defaults filled in; 0 for options it does not read. */
export function pairLossOptions(
  name: PairLossName,
  given: { [Name in Numbers]?: number | undefined },
): { [Name in Numbers]: number } {
  const own = pairLoss(name)
  const {
    beta = own.beta,
    labelSmoothing = own.labelSmoothing ?? 0,
    gamma = own.gamma ?? 0,
    lambda = own.lambda ?? 0,
    sftCoef = own.sftCoef ?? 0,
  } = given
  return { beta, labelSmoothing, gamma, lambda, sftCoef }
}

/** Defaults of an option for its help, `0.1; simpo 2`: the first loss's, then the exceptions. */
export function defaultsText(option: Numbers): string {
  const values = PAIR_LOSS_NAMES.flatMap((name) => {
    const value = pairLoss(name)[option] ?? (option === 'sftCoef' ? 0 : undefined)
    return value === undefined ? [] : [{ name, value }]
  })
  const [first, ...others] = values
  const exceptions = others.filter(({ value }) => value !== first?.value)
  return [first?.value, ...exceptions.map(({ name, value }) => `${name} ${value}`)].join('; ')
}
