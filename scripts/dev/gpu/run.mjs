// The stages of run.sh, in the order of what they tell: a report is complete up to the stage that was reached.
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '9' },
    output: { type: 'string', default: 'docs/gpu/report' },
    work: { type: 'string', default: '/tmp/posttrain-gpu' },
    /** Runs every stage on the CPU with small models, to try the script itself. */
    rehearse: { type: 'boolean', default: false },
  },
})
const root = process.cwd()
const output = resolve(values.output)
const tree = join(values.work, 'tree')
const end = Date.now() + Number(values.minutes) * 60_000
mkdirSync(output, { recursive: true })

const report = { commit: null, rehearsal: values.rehearse, versions: {}, stages: [], checks: [], speed: [] }
const save = () => writeFileSync(join(output, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)

/** Runs a command for at most `limit` seconds, and what is left of the minutes. */
function execute(command, args, { limit, env = {}, cwd = tree } = {}) {
  return new Promise((done) => {
    const left = Math.max(1, Math.min(limit ?? 60, (end - Date.now()) / 1000))
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, detached: true })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk))
    const timer = setTimeout(() => {
      text += `\nstopped after ${left.toFixed(0)} s`
      try {
        process.kill(-child.pid, 'SIGKILL')
      } catch {}
    }, left * 1000)
    child.on('error', (error) => done({ code: -1, text: `${error.message}` }))
    child.on('close', (code) => {
      clearTimeout(timer)
      done({ code, text })
    })
  })
}

/** One stage: its output goes to a file, its result to the report. */
async function stage(name, run) {
  if (Date.now() > end - 5000) {
    report.stages.push({ name, ok: null, note: 'no time left' })
    return save()
  }
  const from = Date.now()
  let result
  try {
    result = await run()
  } catch (error) {
    result = { code: -1, text: String(error?.stack ?? error) }
  }
  const { code, text = '', note } = result
  writeFileSync(join(output, `${name}.txt`), text.slice(-200_000))
  report.stages.push({ name, ok: code === 0, seconds: (Date.now() - from) / 1000, ...(note && { note }) })
  process.stdout.write(
    `${name}: ${code === 0 ? 'ok' : 'FAILED'} in ${((Date.now() - from) / 1000).toFixed(1)} s\n`,
  )
  save()
}

/** Lines that begin with `prefix`, as JSON. */
const linesOf = (text, prefix) =>
  text
    .split('\n')
    .filter((line) => line.startsWith(prefix))
    .flatMap((line) => {
      try {
        return [JSON.parse(line.slice(prefix.length))]
      } catch {
        return []
      }
    })

const device = values.rehearse ? 'cpu' : 'cuda:0'
let libtorch = null
const environment = () => ({
  POSTTRAIN_LIBTORCH: libtorch ?? '',
  POSTTRAIN_TEST_DEVICE: device,
  POSTTRAIN_KERNELS: undefined,
  LIBTORCH_USE_PYTORCH: '1',
})

await stage('versions', async () => {
  const of = async (command, ...args) => (await execute(command, args, { limit: 20, cwd: root })).text.trim()
  const python = 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())'
  report.versions = {
    gpu: await of(
      'nvidia-smi',
      '--query-gpu=name,driver_version,memory.total,compute_cap',
      '--format=csv,noheader',
    ),
    nvcc: (await of('nvcc', '--version')).split('\n').at(-2) ?? '',
    compiler: (await of('c++', '--version')).split('\n')[0],
    cmake: (await of('cmake', '--version')).split('\n')[0],
    torch: await of('python3', '-c', python),
    node: process.version,
    cores: availableParallelism(),
  }
  const packed = join(root, '.cache/gpu/commit')
  const commit = await of('git', 'rev-parse', 'HEAD')
  const isKnown = /^[0-9a-f]{40}$/.test(commit)
  report.commit = isKnown || !existsSync(packed) ? commit : readFileSync(packed, 'utf8').trim()
  return { code: 0, text: JSON.stringify(report.versions, null, 2) }
})

await stage('copy', async () => {
  const skipped = new Set(['.git', '.cache', 'build-cmake', 'build', 'runs', 'prebuilds', 'docs'])
  rmSync(tree, { recursive: true, force: true })
  cpSync(root, tree, {
    recursive: true,
    filter: (from) => !skipped.has(from.slice(root.length + 1).split('/')[0]) || from === root,
  })
  for (const archive of ['node_modules.tar.xz', 'dist.tar.xz']) {
    const path = join(root, '.cache/gpu', archive)
    const name = archive.split('.')[0]
    if (!existsSync(path) || existsSync(join(tree, name))) continue
    const { code, text } = await execute('tar', ['-xJf', path, '-C', tree], { limit: 60 })
    if (code !== 0) return { code, text }
  }
  const found = await execute(
    'python3',
    ['-c', 'import os, torch; print(os.path.dirname(torch.__file__)); print(torch.__version__)'],
    { limit: 60 },
  )
  const [folder, version] = found.text.trim().split('\n').slice(-2)
  libtorch = process.env.POSTTRAIN_LIBTORCH ?? folder
  // The checks of the version compare with this file: in the copy it names the torch that is there.
  const path = join(tree, 'native/libtorch.json')
  const constants = JSON.parse(readFileSync(path, 'utf8'))
  const [plain] = version.split('+')
  constants.version = plain
  constants.minor = plain.split('.').slice(0, 2).join('.')
  writeFileSync(path, JSON.stringify(constants, null, 2))
  return { code: found.code, text: `${libtorch} ${version}` }
})

await stage('build', async () => {
  const configure = ['-S', '.', '-B', 'build-cmake', '-G', 'Ninja', `-DPOSTTRAIN_LIBTORCH=${libtorch}`]
  const configured = await execute('cmake', configure, { limit: 60 })
  if (configured.code !== 0) return configured
  const built = await execute('cmake', ['--build', 'build-cmake', '-j', String(availableParallelism())], {
    limit: values.rehearse ? 3600 : 200,
  })
  return { code: built.code, text: configured.text + built.text }
})

await stage('open', async () => {
  const args = ['scripts/dev/gpu/open.mjs', device]
  const result = await execute(process.execPath, args, { limit: 60, env: environment() })
  const [kernels] = linesOf(result.text, 'KERNELS ')
  report.kernels = kernels ?? null
  if (kernels && !values.rehearse)
    report.checks.push({ name: 'our kernels come from the fatbin', ok: kernels.kernels[0] === 'fatbin' })
  return result
})

/** AVA's tests of files, each result a check of the report. */
async function tests(files, limit) {
  const result = await execute(
    process.execPath,
    ['node_modules/ava/entrypoints/cli.mjs', '--tap', '-c', '1', ...files],
    {
      limit,
      env: environment(),
    },
  )
  for (const [, not, name, skip] of result.text.matchAll(/^(not )?ok \d+ - (.*?)( # SKIP.*)?$/gm))
    report.checks.push({ name, ok: skip ? null : !not })
  return result
}

await stage('fused', () => tests(['test/device/fused.test.ts'], 60))
await stage('kernels', () => tests(['test/device/kernels.test.ts'], 90))
await stage('parity', () => tests(['test/cuda/libraries.test.ts', 'test/cuda/parity.test.ts'], 90))
// Its tests are of bfloat16 and of the memory of a device.
if (!values.rehearse) await stage('training', () => tests(['test/cuda/training.test.ts'], 60))
await stage('deterministic', () => tests(['test/cuda/deterministic.test.ts'], 40))
await stage('generation', () => tests(['test/generate/unwritten.test.ts'], 40))

const size = values.rehearse ? 'tiny' : 'full'
for (const work of ['ceilings', 'sft', 'lora', 'qlora', 'decode']) {
  await stage(`speed-${work}`, async () => {
    const result = await execute(process.execPath, ['scripts/dev/gpu/speed.mjs', work, device, size], {
      limit: 75,
      env: environment(),
    })
    const peer = await execute('python3', ['scripts/dev/gpu/peer.py', work, device, size], { limit: 60 })
    const [ours] = linesOf(result.text, 'SPEED ')
    const [theirs] = linesOf(peer.text, 'SPEED ')
    if (ours || theirs)
      report.speed.push({
        name: work,
        ours: ours ?? null,
        transformers: theirs ?? null,
        ratio: ours && theirs ? ours.perSecond / theirs.perSecond : null,
      })
    // The same weights and ids: the first losses agree.
    if (ours?.firstLoss !== undefined && theirs?.firstLoss !== undefined)
      report.checks.push({
        name: `${work}: the first loss is that of transformers`,
        ok: Math.abs(ours.firstLoss / theirs.firstLoss - 1) < 0.01,
        values: [ours.firstLoss, theirs.firstLoss],
      })
    const missing = /No module named '([^']+)'/.exec(peer.text)?.[1]
    return {
      code: result.code || (theirs === undefined && work !== 'qlora' && missing === undefined ? 1 : 0),
      text: `${result.text}\n--- transformers\n${peer.text}`,
      ...(missing !== undefined && { note: `nothing to compare with: this python3 has no ${missing}` }),
    }
  })
}
save()
process.stdout.write(
  `${join(output, 'report.json')}: ${report.checks.filter(({ ok }) => ok === false).length} checks failed\n`,
)
process.stdout.write(`${readdirSync(output).length} files\n`)
