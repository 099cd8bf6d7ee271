import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'
import test from 'ava'
import type { Diagnosis } from '../../lib/cli/doctor.js'
import { findLibtorch } from '../../lib/libtorch/find/libtorch.js'
import { mainProgram } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'

const cache = newFolder()

function doctor(args: string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [mainProgram, 'doctor', ...args], {
    encoding: 'utf8',
    env: { ...process.env, POSTTRAIN_LIBTORCH: findLibtorch().folder, POSTTRAIN_CACHE: cache, ...env },
  })
}
const checksOf = (text: string) => {
  const { ok, checks } = JSON.parse(text) as Diagnosis
  return { ok, check: Object.fromEntries(checks.map((check) => [check.name, check])) }
}

test('where all is there: exit code 0, and each thing that was found by name', (t) => {
  const { status, stdout, stderr } = doctor(['--json'])
  t.is(status, 0, stderr)
  const { ok, check } = checksOf(stdout)
  t.true(ok)
  t.is(check.node?.found, process.versions.node)
  t.true(check.libtorch?.found.includes(findLibtorch().folder))
  t.regex(check.core?.found ?? '', /^opens libtorch 2\.13\.\d/)
  t.regex(check['self-test']?.found ?? '', /^cpu, loss \d\.\d+ to \d\.\d+ in \d+ ms$/)
  t.deepEqual(check.libtorch?.tried, [
    { source: 'POSTTRAIN_LIBTORCH', place: 'POSTTRAIN_LIBTORCH', outcome: 'taken' },
  ])
  t.regex(check.threads?.found ?? '', /^\d+ for libtorch of \d+ cores/)
  t.true(check.cache?.found.startsWith(cache))
  t.regex(doctor([]).stdout, /^ok {4}libtorch .*\n(.*\n)*Everything is ready for training\.\n$/m)
})

test('without libtorch: exit code 1 and what to do', (t) => {
  const { status, stdout } = doctor(['--json'], { POSTTRAIN_LIBTORCH: '', LIBTORCH: '' })
  t.is(status, 1)
  const { ok, check } = checksOf(stdout)
  t.false(ok)
  t.is(check.libtorch?.status, 'failed')
  t.regex(
    check.libtorch?.advice ?? '',
    /run `npx posttrain libtorch install`, or set POSTTRAIN_LIBTORCH to a libtorch folder/,
  )
  t.deepEqual(
    check.libtorch?.tried?.map(({ source, outcome }) => [source, outcome]),
    [
      ['POSTTRAIN_LIBTORCH', 'not set'],
      ['LIBTORCH', 'not set'],
      ['package', 'not installed'],
      ['cache', 'empty'],
      ['python', 'not enabled (LIBTORCH_USE_PYTORCH=1)'],
    ],
  )
  t.is(check.core, undefined)
  t.regex(
    doctor([], { POSTTRAIN_LIBTORCH: '', LIBTORCH: '' }).stdout,
    /^FAIL {2}libtorch (.*\n)+ +- LIBTORCH: not set\n(.*\n)+posttrain cannot train on this machine yet\.\n$/m,
  )
})

/** A libtorch folder of links to the real one; `changed` is left to the test. */
function tree(name: string, changed: string): string {
  const folder = join(cache, name)
  mkdirSync(join(folder, 'lib'), { recursive: true })
  const { libraries } = findLibtorch()
  for (const file of readdirSync(libraries))
    if (file !== changed) symlinkSync(join(libraries, file), join(folder, 'lib', file))
  return folder
}

test('a truncated library ends the child alone: its name, and the command that mends it', (t) => {
  const folder = tree('truncated', 'libc10.so')
  const path = join(folder, 'lib/libc10.so')
  copyFileSync(join(findLibtorch().libraries, 'libc10.so'), path)
  truncateSync(path, Math.round(statSync(path).size * 0.6))
  const { status, stdout } = doctor(['--json'], { POSTTRAIN_LIBTORCH: folder })
  t.is(status, 1)
  const { check } = checksOf(stdout)
  t.is(check.core?.status, 'failed')
  t.true(check.core?.advice?.includes(path), check.core?.advice)
  t.regex(
    check.core?.advice ?? '',
    /the file is damaged: unset POSTTRAIN_LIBTORCH and run `npx posttrain libtorch install`/,
  )
})

/** An nvidia-smi that tells of one device with this driver. */
function withDriver(version: string): Record<string, string> {
  const folder = join(cache, `driver-${version}`)
  mkdirSync(folder, { recursive: true })
  const program = join(folder, 'nvidia-smi')
  writeFileSync(program, `#!/bin/sh\necho '${version}, 81559, 81000, NVIDIA H100 80GB HBM3'\n`)
  chmodSync(program, 0o755)
  return { PATH: [folder, process.env.PATH].join(delimiter) }
}

test('a driver that is too old, and one that this libtorch cannot use', (t) => {
  const old = checksOf(doctor(['--json'], withDriver('535.104.05')).stdout).check
  t.like(old.gpu, {
    status: 'warning',
    found: 'NVIDIA driver 535.104.05; NVIDIA H100 80GB HBM3, 84.9 GB free of 85.5 GB',
  })
  t.regex(old.gpu?.advice ?? '', /driver 535\.104\.05 is older than 580\.65.*update the driver/)
  const good = checksOf(doctor(['--json'], { ...withDriver('580.95.05'), POSTTRAIN_CUDA: '' }).stdout).check
  t.is(good.gpu?.status, 'ok')
  t.is(good.cuda?.status, 'warning')
  t.regex(good.cuda?.advice ?? '', /libtorch install --variant cu130/)
})

test('without the tools of a build, a cache or a known POSTTRAIN_CUDA: said, each with its advice', (t) => {
  const file = join(cache, 'file')
  writeFileSync(file, '')
  const { status, stdout } = doctor(['--json'], { PATH: cache, POSTTRAIN_CACHE: file })
  t.is(status, 0)
  const { check } = checksOf(stdout)
  t.like(check.tools, { status: 'warning', found: 'no c++, no cmake, no pip' })
  t.like(check.cache, { status: 'warning', found: file })
  for (const [name, value] of [
    ['POSTTRAIN_ALLOCATOR', 'x'],
    ['POSTTRAIN_ALLOCATOR_CACHE_MB', 'abc'],
    ['POSTTRAIN_ALLOCATOR_CACHE_MB', '-1'],
  ] as const)
    t.regex(
      checksOf(doctor(['--json'], { [name]: value }).stdout).check.core?.advice ?? '',
      new RegExp(`${name} is ${value}; it must be `),
    )
  const wrong = doctor(['--json'], { POSTTRAIN_CUDA: 'yes' })
  t.is(wrong.status, 1)
  t.regex(checksOf(wrong.stdout).check.core?.advice ?? '', /POSTTRAIN_CUDA is yes/)
})
