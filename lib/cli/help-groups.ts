/** Headings of the help, in their order. */
const HEADINGS = [
  'Required',
  'Data',
  'Training',
  'LoRA',
  'Preference',
  'Rollout',
  'Policy',
  'Sampling',
  'Evaluation',
  'Checkpoints',
  'Options',
  'Machine',
  'General',
] as const

type Heading = (typeof HEADINGS)[number]

/** Headings of options by their names; an option that is not here is one of `Training`, or of `Options` in other commands. */
const GROUPS: Partial<Record<Heading, readonly string[]>> = {
  Data: [
    ...['data', 'template', 'templateArguments', 'reasoning', 'rendered', 'trainOn', 'maxLength', 'overflow'],
    ...['maxPromptLength', 'documents', 'templateTime', 'onBadRow', 'shuffle'],
  ],
  LoRA: ['lora', 'adapter'],
  Evaluation: ['validation', 'evaluation', 'earlyStopping', 'keep', 'samples'],
  Checkpoints: ['output', 'checkpoints', 'resume', 'overwrite', 'takeLock', 'saveDtype', 'padToken'],
  Machine: [
    'device',
    'dtype',
    'quantize',
    'threads',
    'deterministic',
    'activationCheckpointing',
    'memory',
    'probe',
  ],
  General: ['config', 'json', 'quiet'],
}
const PREFERENCE: Partial<Record<Heading, readonly string[]>> = {
  Preference: [
    ...[
      'loss',
      'beta',
      'labelSmoothing',
      'gamma',
      'lambda',
      'desirableWeight',
      'undesirableWeight',
      'sftCoef',
    ],
    'center',
  ],
}
const POLICY: Partial<Record<Heading, readonly string[]>> = {
  Rollout: [
    ...[
      'reward',
      'rewardTimeoutMs',
      'maxNewTokens',
      'temperature',
      'batchSize',
      'groupSize',
      'rolloutBatchSize',
    ],
    ...[
      'missingEosPenalty',
      'overlongTokens',
      'maskTruncated',
      'scoreNormalize',
      'scoreClip',
      'scaleRewards',
    ],
  ],
  Policy: [
    ...['klCoef', 'kl', 'klLimit', 'clip', 'clipLow', 'clipHigh', 'dualClip', 'valueClip', 'gamma', 'lambda'],
    ...['entropyCoef', 'whitenRewards', 'whitenAdvantages', 'normalizeAdvantages', 'reduction', 'targetKl'],
    ...['criticLearningRate', 'criticWarmup'],
  ],
}
const SAMPLING: Partial<Record<Heading, readonly string[]>> = {
  Sampling: [
    ...[
      'maxNewTokens',
      'temperature',
      'topK',
      'topP',
      'minP',
      'repetitionPenalty',
      'seed',
      'stop',
      'stopIds',
    ],
    'logProbs',
  ],
  Machine: GROUPS.Machine!,
  General: GROUPS.General!,
}

const TABLES: Record<string, readonly Partial<Record<Heading, readonly string[]>>[]> = {
  sft: [GROUPS],
  pretrain: [GROUPS],
  reward: [PREFERENCE, GROUPS],
  dpo: [PREFERENCE, GROUPS],
  ppo: [POLICY, GROUPS],
  grpo: [POLICY, GROUPS],
  rloo: [POLICY, GROUPS],
}

/** Heading of an option in the help of a command. */
export function headingOf(command: string, path: string, required: boolean): Heading {
  if (required) return 'Required'
  const [name] = path.split('.')
  for (const table of TABLES[command] ?? [SAMPLING]) {
    for (const [heading, names] of Object.entries(table)) if (names.includes(name!)) return heading as Heading
  }
  return command in TABLES ? 'Training' : 'Options'
}

/** Sorts headings into their order in the help; others follow. */
export function headingOrder(heading: string): number {
  const at = HEADINGS.indexOf(heading.replace(/:$/, '') as Heading)
  return at < 0 ? HEADINGS.length : at
}

/** Two examples of each command. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  sft: [
    'posttrain sft --model ./model --data chats.jsonl --validation 0.05',
    'posttrain sft --config sft.yaml --lora --output runs/first',
  ],
  pretrain: [
    'posttrain pretrain --model ./model --data corpus.txt --max-steps 1000',
    'posttrain pretrain --model ./tokenizer --data corpus.txt --from-scratch',
  ],
  reward: [
    'posttrain reward --model ./model --data pairs.jsonl --output runs/reward',
    'posttrain reward --model ./model --data pairs.jsonl --lora --center 0.01',
  ],
  dpo: [
    'posttrain dpo --model ./model --data pairs.jsonl --lora --beta 0.1',
    'posttrain dpo --model ./model --data labels.jsonl --loss kto',
  ],
  ppo: [
    'posttrain ppo --model ./model --data prompts.jsonl --reward runs/reward/model',
    'posttrain ppo --model ./model --data prompts.jsonl --reward brief.js --lora',
  ],
  grpo: [
    'posttrain grpo --model ./model --data tasks.jsonl --reward correct.js',
    'posttrain grpo --model ./model --data tasks.jsonl --reward correct.js --lora',
  ],
  rloo: [
    'posttrain rloo --model ./model --data tasks.jsonl --reward correct.js',
    'posttrain rloo --model ./model --data tasks.jsonl --reward correct.js --lora',
  ],
  merge: [
    'posttrain merge --model ./model --adapter runs/first/adapter --output ./merged',
    'posttrain merge --model org/name --adapter ./adapter --output ./merged',
  ],
  push: [
    'posttrain push --model runs/first/model --to org/name --private',
    'posttrain push --model runs/first/adapter --to org/name --message "First run"',
  ],
  generate: [
    'posttrain generate --model ./model --prompt "The cat"',
    'posttrain generate --model ./model --prompts questions.jsonl --json',
  ],
  chat: [
    'posttrain chat --model ./model --adapter runs/first/adapter',
    'posttrain chat --model ./model --system "Answer briefly." --temperature 0.7',
  ],
  distill: [
    'posttrain distill --data seeds.jsonl --output rows.jsonl --endpoint-model NAME',
    'posttrain distill --data seeds.jsonl --output rows.jsonl --model ./teacher',
  ],
  estimate: [
    'posttrain estimate sft --model ./model --lora',
    'posttrain estimate dpo --model ./model --data pairs.jsonl --memory 24GB',
  ],
}
