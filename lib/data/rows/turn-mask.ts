import { bad, type Fields, type Origin, shown } from './fields.js'

/**
 * Fields of a message that say whether it is trained: `weight` of OpenAI and mistral-finetune, `train` and `training` of
 * Axolotl, `loss` and `loss_scale` of ms-swift, `loss_weight` of LLaMA-Factory, `loss_mask` of Megatron, `output_with_loss`
 * of XTuner, and torchtune's `masked`, which says the opposite.
 */
const MASKS = [
  'train',
  'training',
  'weight',
  'loss',
  'loss_scale',
  'loss_weight',
  'loss_mask',
  'output_with_loss',
  'masked',
] as const

/** Masks that other programs obey in turns of any role. */
const OF_ANY_ROLE: readonly string[] = ['train', 'training']

/** Fields that mask in another way, with what to write instead. */
const REFUSED: readonly [string, string][] = [
  ['mask', 'may mean that the turn is trained or that it is not: write train: true or train: false'],
  ['train_detail', 'masks parts of a turn, which is not supported: write train: true or train: false'],
  ['training_detail', 'masks parts of a turn, which is not supported: write train: true or train: false'],
]

/** The masks of a message, unread. */
export const masksIn = (fields: Fields): Fields =>
  Object.fromEntries(
    [...MASKS, ...REFUSED.map(([name]) => name)].flatMap((name) =>
      fields[name] === undefined ? [] : [[name, fields[name]]],
    ),
  )

/** Separates the masks of a message from its other fields; throws ERR_DATA for another value than 0, 1, true and false. */
export function unmasked(fields: Fields, at: string, origin: Origin): { train?: boolean; rest: Fields } {
  for (const [name, advice] of REFUSED)
    if (fields[name] !== undefined) throw bad(origin, `${at}.${name}`, advice)
  const given = MASKS.filter((name) => fields[name] !== undefined)
  const [first] = given
  if (first === undefined) return { rest: fields }
  const rest = { ...fields }
  const values = given.map((name) => {
    delete rest[name]
    return flagOf(fields[name], `${at}.${name}`, origin) !== (name === 'masked')
  })
  const other = given[values.findIndex((value) => value !== values[0])]
  if (other !== undefined)
    throw bad(origin, `${at}.${other}`, `and ${first} disagree on whether the turn is trained`)
  return { train: values[0]!, rest }
}

/** Throws ERR_DATA where a turn of another role than assistant is to be trained. */
export function refuseTrained(fields: Fields, at: string, origin: Origin): void {
  const name = OF_ANY_ROLE.find((name) => fields[name] !== undefined && Number(fields[name]) === 1)
  if (name !== undefined)
    throw bad(
      origin,
      `${at}.${name}`,
      "is true, but only turns of the assistant can be trained one by one: leave it out, or set trainOn to 'all'",
    )
}

function flagOf(value: unknown, at: string, origin: Origin): boolean {
  const number = typeof value === 'number' || value instanceof Number || typeof value === 'boolean'
  if (number && Number(value) === 0) return false
  if (number && Number(value) === 1) return true
  const got = number ? Number(value) : shown(value)
  throw bad(origin, at, `must be true, false, 0 or 1, got ${got}`)
}
