import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { posttrain } from '../helpers/command-line.js'
import { newFolder } from '../helpers/scratch.js'

const folder = newFolder()
mkdirSync(join(folder, 'model'))
writeFileSync(join(folder, 'rows.jsonl'), '')

/** Lines and what each is completed to, where there is one completion. */
const COMPLETED = [
  ['sf', 'sft'],
  ['estimate gr', 'estimate grpo'],
  ['sft --learn', 'sft --learning-rate'],
  ['sft --data a --no-', 'sft --data a --no-shuffle'],
  ['sft --train-on l', 'sft --train-on lastAssistant'],
  ['estimate dpo --loss kt', 'estimate dpo --loss kto'],
  ['estimate dpo --mem', 'estimate dpo --memory'],
  ['dpo --mem', 'dpo --mem'],
  ['completion z', 'completion zsh'],
  ['libtorch ur', 'libtorch urls'],
  ['sft --data ro', 'sft --data rows.jsonl'],
  ['sft --model mo', 'sft --model model'],
] as const

/** Writes the script of a shell; null where the shell is not installed, with a line. */
async function scriptOf(
  t: ExecutionContext,
  shell: string,
  name = `script.${shell}`,
): Promise<string | null> {
  if (spawnSync(shell, ['--version']).error) {
    t.log(`skipped: there is no ${shell} (apt-get install ${shell})`)
    t.pass()
    return null
  }
  const { code, stdout, stderr } = await posttrain(['completion', shell])
  t.is(code, 0, stderr)
  writeFileSync(join(folder, name), stdout)
  return join(folder, name)
}

/** Runs a program of a shell for the lines, and returns what it prints of each. */
function ask(t: ExecutionContext, shell: string, argv: readonly string[]): string[] {
  const ended = spawnSync(shell, argv, { encoding: 'utf8', cwd: folder, timeout: 60_000 })
  t.is(ended.status, 0, ended.stderr)
  return ended.stdout.trimEnd().split('\n')
}

/** What a shell makes of a line whose last word has one completion: that word instead of the last. */
const withLast = (line: string, word: string) =>
  [...line.split(' ').slice(0, -1), word || line.split(' ').at(-1)].join(' ')

test('bash completes commands, subcommands, options and values', async (t) => {
  const script = await scriptOf(t, 'bash')
  if (script === null) return
  const program = `source "$0"; for line in "$@"; do
    COMP_WORDS=(posttrain $line); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _posttrain 2>/dev/null; echo "\${COMPREPLY[*]}"
  done`
  const found = ask(t, 'bash', ['-c', program, script, ...COMPLETED.map(([line]) => line)])
  t.deepEqual(
    COMPLETED.map(([line], i) => withLast(line, found[i]!)),
    COMPLETED.map(([, whole]) => whole),
  )
})

test('fish completes the same', async (t) => {
  const script = await scriptOf(t, 'fish')
  if (script === null) return
  const program = `source $argv[1]; for line in $argv[2..]; set -l found (complete -C "posttrain $line" | string split -f 1 \\t); echo "$found"; end`
  const found = ask(t, 'fish', ['--no-config', '-c', program, script, ...COMPLETED.map(([line]) => line)])
  t.deepEqual(
    COMPLETED.map(([line], i) => withLast(line, found[i]!.replace(/\/$/, ''))),
    COMPLETED.map(([, whole]) => whole),
  )
})

/** A zsh in a terminal of its own: types each line and Tab, and prints the line that it then has. */
const ZSH = `zmodload zsh/zpty; load=$1; shift
zpty -b z zsh -f -i
zpty -w z "PS1=; unsetopt beep; autoload -Uz compinit; $load; show() { print -r -- \\"<<\\$BUFFER>>\\"; BUFFER=; zle .accept-line }; zle -N show; bindkey '^X' show; print REA''DY"
out=; while [[ $out != *READY* ]]; do zpty -r z part && out+=$part; done
for line in "$@"; do
  zpty -w -n z "posttrain $line"$'\\t\\x18'
  out=; while [[ $out != *'>>'* ]]; do zpty -r z part && out+=$part; done
  print -r -- "\${\${out##*<<}%%>>*}"
done
zpty -d z`

for (const [how, name, load] of [
  ['sourced', 'script.zsh', 'compinit -u -D; source ./script.zsh'],
  ['found in fpath', '_posttrain', 'fpath=($PWD $fpath); compinit -u -D'],
] as const) {
  test(`zsh completes the same in a terminal, ${how}`, async (t) => {
    if ((await scriptOf(t, 'zsh', name)) === null) return
    const found = ask(t, 'zsh', ['-f', '-c', ZSH, 'zsh', load, ...COMPLETED.map(([line]) => line)])
    t.deepEqual(
      found.map((line) => line.replace(/^posttrain /, '').replace(/[ /]+$/, '')),
      COMPLETED.map(([, whole]) => whole),
    )
  })
}
