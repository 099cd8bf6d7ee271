import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { DistillOptions } from '../../lib/distill/options.generated.js'
import type { distillOptions } from '../../lib/distill/options.js'
import type { GenerateOptions } from '../../lib/generate/options.generated.js'
import type { generateOptions } from '../../lib/generate/options.js'
import type { loraOptions } from '../../lib/models/lora.js'
import type { LoraOptions } from '../../lib/models/options.generated.js'
import type { OptionInput } from '../../lib/options/option.js'
import type { pretrainOptions, sftOptions } from '../../lib/train/options/fields.js'
import type { grpoOptions, rlooOptions } from '../../lib/train/options/group.js'
import type {
  DpoOptions,
  GrpoOptions,
  PpoOptions,
  PretrainOptions,
  RewardOptions,
  RlooOptions,
  SftOptions,
} from '../../lib/train/options/options.generated.js'
import type { ppoOptions } from '../../lib/train/options/ppo.js'
import type { dpoOptions, rewardOptions } from '../../lib/train/options/preference.js'

/** True for one and the same type: a property more or less, or `?` at one of them, is false. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Does not compile where an interface and what its schema takes differ. */
type Proven = [
  Same<DistillOptions, OptionInput<typeof distillOptions>>,
  Same<DpoOptions, OptionInput<typeof dpoOptions>>,
  Same<GenerateOptions, OptionInput<typeof generateOptions>>,
  Same<GrpoOptions, OptionInput<typeof grpoOptions>>,
  Same<LoraOptions, OptionInput<typeof loraOptions>>,
  Same<PpoOptions, OptionInput<typeof ppoOptions>>,
  Same<PretrainOptions, OptionInput<typeof pretrainOptions>>,
  Same<RewardOptions, OptionInput<typeof rewardOptions>>,
  Same<RlooOptions, OptionInput<typeof rlooOptions>>,
  Same<SftOptions, OptionInput<typeof sftOptions>>,
]
const proven: Proven = [true, true, true, true, true, true, true, true, true, true]

test('the interfaces of the options are what the schemas take, and as the script writes them', (t) => {
  t.is(proven.length, 10)
  const script = fileURLToPath(new URL('../../../scripts/option-types.mjs', import.meta.url))
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' })
  t.is(status, 0, stdout + stderr)
})
