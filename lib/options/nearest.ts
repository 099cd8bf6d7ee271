/** Counts the edits (insert, delete, replace, swap of neighbors) between two words. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, replace)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2]! + 1)
      }
      row.push(best)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}

/** Names that other trainers have for options of ours. */
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  epochs: ['numtrainepochs', 'numepochs'],
  iterations: ['maxsteps', 'steps', 'numtrainepochs', 'epochs'],
  batchSize: ['perdevicetrainbatchsize', 'microbatchsize'],
  gradientAccumulation: ['gradientaccumulationsteps'],
  data: ['dataset', 'datasetname', 'trainfile', 'traindata', 'file', 'input'],
  validation: ['evaldataset', 'evaldata', 'evalfile', 'valdata', 'testdata'],
  model: ['modelnameorpath', 'base', 'basemodel', 'checkpoint'],
  schedule: ['lrscheduler', 'lrschedulertype', 'scheduler'],
  maxLength: ['maxseqlength', 'maxseqlen', 'cutofflen', 'contextlength'],
  maxNewTokens: ['maxtokens', 'maxcompletionlength', 'responselength'],
  groupSize: ['numgenerations'],
  klCoef: ['beta'],
  reward: ['rewardfuncs', 'rewardmodel', 'rewardfunction'],
  loss: ['losstype'],
  activationCheckpointing: ['gradientcheckpointing'],
  output: ['outputdir', 'out', 'savepath'],
  resume: ['resumefromcheckpoint'],
}

/** Returns the known name most similar to `name`, or undefined where none is close. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  const plain = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '')
  const wanted = plain(name)
  const names = Array.from(known)
  const ours = Object.keys(ELSEWHERE).filter((own) => ELSEWHERE[own]!.includes(wanted))
  const same = names.find((candidate) => ours.some((own) => plain(own) === plain(candidate)))
  // `checkpoint` is a model to others, but the beginning of our own `checkpoints` where that is an option.
  const begun = names.some((candidate) => wanted.length >= 3 && plain(candidate).startsWith(wanted))
  if (same !== undefined && !begun) return same
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of names) {
    const other = plain(candidate)
    // A part of a name, such as `warmup`, counts as close to a name that begins or ends with it; so do initials (`lr`).
    const distance =
      wanted.length >= 3 && (other.startsWith(wanted) || other.endsWith(wanted))
        ? 0.9
        : wanted.length >= 2 && wanted === initials(candidate)
          ? 0.95
          : editDistance(wanted, other)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return bestDistance <= Math.max(1, wanted.length * 0.4) ? best : undefined
}

/** First letters of the words of a name: `learningRate`, `learning-rate` -> `lr`. */
function initials(name: string): string {
  return [...name.matchAll(/[A-Z]|(?<![a-z])[a-z]/g)].join('').toLowerCase()
}
