// `npm run test:package`: packs, installs the tarballs with --ignore-scripts in an empty folder without a compiler, Python
// or cache, and runs what was installed. Prints sizes and times; exit code 1 if a check fails.
//   --node 20,26   Node.js release lines; default 20,22,24,26
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensurePrebuild } from '../prebuild.mjs'
import { ensureLibtorch } from '../setup/libtorch.mjs'
import { SetupError } from '../setup/process.mjs'
import { contentProblems, metadataProblems } from './contents.mjs'
import {
  emptyEnvironment,
  installedPackages,
  installInto,
  nodeOf,
  nodeVersions,
  runNode,
} from './empty-folder.mjs'
import { publishedManifest } from './main.mjs'
import { megabytes, packLibtorch, packMain } from './pack.mjs'
import { thisPlatform } from './platforms.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const programs = join(root, 'test/package')

let passed = 0
let failed = 0
const say = (text) => console.log(`package: ${text}`)
function check(name, holds, detail) {
  if (holds) passed++
  else failed++
  say(holds ? `ok: ${name}` : `FAILED: ${name}\n${detail}`)
}

function lastJson(text) {
  const line = text.trim().split('\n').at(-1)
  return line.startsWith('{') ? JSON.parse(line) : {}
}

/** Uses the package as a user does, with one Node.js; returns the numbers of its training run. */
function use(line, project, home) {
  const env = emptyEnvironment(home, nodeOf(line))
  const model = join(project, 'model')
  const run = (name, args) => {
    const { code, stdout, output } = runNode(env, args, project)
    check(`Node ${line}: ${name}`, code === 0, `exit code ${code}\n${output.slice(-3000)}`)
    return code === 0 ? stdout : ''
  }
  const numbers = lastJson(run('import, SFT, generation, PPO', ['train.mjs', model, String(Date.now())]))
  const opened = `${project}/node_modules/@posttrain/libtorch-${thisPlatform}/lib/libtorch_cpu.so`
  check(
    `Node ${line}: the installed libtorch was opened`,
    numbers.libtorch?.join() === opened,
    numbers.libtorch,
  )
  run('require', ['require.cjs'])
  const cli = join(project, 'node_modules/.bin/posttrain')
  const output = join(project, `run-${line}`)
  run('posttrain doctor', [cli, 'doctor'])
  run('posttrain sft', [
    cli,
    'sft',
    '--model',
    model,
    '--data',
    'rows.jsonl',
    '--max-steps',
    '2',
    '--output',
    output,
    '--quiet',
  ])
  run('posttrain generate', [
    cli,
    'generate',
    '--model',
    join(output, 'model'),
    '--prompt',
    '1+1=',
    '--max-new-tokens',
    '3',
  ])
  return numbers
}

/** Seconds that Python takes to import TRL; null without TRL. */
function trlSeconds() {
  const python = process.env.POSTTRAIN_PYTHON ?? 'python3'
  const started = Date.now()
  const run = spawnSync(python, ['-c', 'from trl import SFTTrainer'], { encoding: 'utf8' })
  return run.status === 0 ? (Date.now() - started) / 1000 : null
}

async function main() {
  const { values } = parseArgs({
    options: { node: { type: 'string', default: Object.keys(nodeVersions).join() } },
  })
  const tree = await ensureLibtorch()
  await ensurePrebuild(tree)
  const posttrain = packMain()
  const libtorch = await packLibtorch({ tree, local: true })
  say(`posttrain: ${megabytes(posttrain.bytes)} packed, ${megabytes(posttrain.unpackedBytes)} unpacked`)
  say(
    `${libtorch.name} (${libtorch.version}): ${megabytes(libtorch.bytes)} packed, ${megabytes(libtorch.unpackedBytes)} unpacked`,
  )
  if (!libtorch.refusal) check('libtorch is below 130 MB packed', libtorch.bytes < 130e6, libtorch.bytes)
  else say(`this libtorch could not be published: ${libtorch.refusal}`)
  const problems = contentProblems(posttrain.file, tree)
  check('the tarball is exactly the whitelist', problems.length === 0, problems.join('\n'))
  const findings = metadataProblems(posttrain.file)
  check('publint and attw', findings.length === 0, findings.join('\n'))

  const home = mkdtempSync(join(tmpdir(), 'posttrain-home-'))
  const project = mkdtempSync(join(tmpdir(), 'posttrain-app-'))
  try {
    const started = Date.now()
    const installed = await installInto(project, home, posttrain.file, libtorch)
    check('npm install --ignore-scripts', installed.code === 0, installed.output)
    const { fetched } = installed
    check('npm downloaded libtorch for this platform only', fetched.join() === thisPlatform, fetched.join())
    for (const name of readdirSync(programs)) cpSync(join(programs, name), join(project, name))
    cpSync(join(root, 'test/fixtures/models/llama'), join(project, 'model'), { recursive: true })
    const rows = Array.from({ length: 8 }, (_, n) => ({ prompt: `${n}+1=`, completion: `${n + 1}` }))
    writeFileSync(join(project, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'))
    const direct = Object.keys(publishedManifest().dependencies)
    const all = installedPackages(project).filter((name) => !/^(@posttrain\/.*|posttrain)$/.test(name))
    say(`runtime dependencies: ${direct.length} (${direct.join(', ')}), ${all.length} in total`)
    check('at most 8 runtime dependencies', direct.length <= 8, direct.join())
    for (const [n, line] of values.node.split(',').entries()) {
      const before = Date.now()
      const { importMs, firstStepMs, node } = use(line, project, home)
      if (n === 0) {
        // The first run also checks libtorch in a child process, as after every installation.
        const whole = installed.ms + (firstStepMs ?? Number.NaN)
        say(
          `npm install to first training step: ${(whole / 1000).toFixed(1)} s (npm install ${(installed.ms / 1000).toFixed(1)} s)`,
        )
      }
      say(
        `${node}: import ${importMs?.toFixed(0)} ms, process start to first step ${firstStepMs} ms, total ${((Date.now() - before) / 1000).toFixed(1)} s`,
      )
    }
    const trl = trlSeconds()
    const second = lastJson(
      runNode(
        emptyEnvironment(home, process.execPath),
        ['train.mjs', join(project, 'model'), String(Date.now())],
        project,
      ).stdout,
    )
    say(
      `process start to first step, libtorch already checked: ${second.firstStepMs} ms; Python's import of TRL: ${trl === null ? 'not installed' : `${trl.toFixed(1)} s`}`,
    )
    say(`total ${((Date.now() - started) / 1000).toFixed(0)} s after packing`)
  } finally {
    rmSync(project, { recursive: true, force: true })
    rmSync(home, { recursive: true, force: true })
  }
  console.log(`package: ${passed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  process.stderr.write(`posttrain: ${error.message}\n`)
  process.exitCode = 1
}
