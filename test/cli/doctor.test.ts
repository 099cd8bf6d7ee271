import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { findLibtorch, packageRoot } from '../../lib/addon/libtorch.js'
import type { Diagnosis } from '../../lib/cli/doctor.js'

const cache = mkdtempSync(join(tmpdir(), 'posttrain-doctor-'))
test.after.always(() => rmSync(cache, { recursive: true, force: true }))

function doctor(args: string[], env: Record<string, string> = {}) {
  const program = join(packageRoot(), 'dist/lib/cli/main.js')
  return spawnSync(process.execPath, [program, 'doctor', ...args], {
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
  t.regex(check.threads?.found ?? '', /^\d+ for libtorch of \d+ cores/)
  t.true(check.cache?.found.startsWith(cache))
  t.regex(doctor([]).stdout, /^ok {4}libtorch .*\n(.*\n)*Everything needed is there\.\n$/m)
})

test('without libtorch: exit code 1 and what to do', (t) => {
  const { status, stdout } = doctor(['--json'], { POSTTRAIN_LIBTORCH: '', LIBTORCH: '' })
  t.is(status, 1)
  const { ok, check } = checksOf(stdout)
  t.false(ok)
  t.is(check.libtorch?.status, 'failed')
  t.regex(
    check.libtorch?.advice ?? '',
    /set POSTTRAIN_LIBTORCH to a libtorch folder, or run `node scripts\/setup\.mjs`/,
  )
  t.is(check.core, undefined)
  t.regex(
    doctor([], { POSTTRAIN_LIBTORCH: '', LIBTORCH: '' }).stdout,
    /^FAIL {2}libtorch (.*\n)+posttrain cannot train on this machine yet\.\n$/m,
  )
})

test('without the tools of a build, a cache or a known POSTTRAIN_CUDA: said, each with its advice', (t) => {
  const file = join(cache, 'file')
  writeFileSync(file, '')
  const { status, stdout } = doctor(['--json'], { PATH: cache, POSTTRAIN_CACHE: file })
  t.is(status, 0)
  const { check } = checksOf(stdout)
  t.like(check.tools, { status: 'warning', found: 'no c++, no cmake, no pip' })
  t.like(check.cache, { status: 'warning', found: file })
  const wrong = doctor(['--json'], { POSTTRAIN_CUDA: 'yes' })
  t.is(wrong.status, 1)
  t.regex(checksOf(wrong.stdout).check.core?.advice ?? '', /POSTTRAIN_CUDA is yes/)
})
