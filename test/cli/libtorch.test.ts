import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { HubProgress } from '../../lib/cli/hub-progress.js'
import { TransferProgress } from '../../lib/cli/transfer.js'
import { libtorchConstants } from '../../lib/libtorch/find/libtorch.js'
import { mainProgram } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'
import { library, writeZip } from '../helpers/zip.js'

// Bars of ASCII, whatever the locale of this machine.
process.env.LC_ALL = 'C'

const scratch = newFolder()
const { version } = libtorchConstants()

function libtorch(args: string[], env: Record<string, string>) {
  return spawnSync(process.execPath, [mainProgram, 'libtorch', ...args], {
    encoding: 'utf8',
    env: { ...process.env, POSTTRAIN_LIBTORCH: '', LIBTORCH: '', POSTTRAIN_OFFLINE: '1', ...env },
  })
}

test('install, path, list and remove', (t) => {
  const env = { POSTTRAIN_CACHE: join(scratch, 'cache') }
  const nothing = libtorch(['path'], env)
  t.is(nothing.status, 1)
  t.regex(nothing.stderr, /^posttrain libtorch path: libtorch 2\.13\.0 was not found .*libtorch install.*\n$/)
  t.is(libtorch(['list'], env).stdout, '')
  const archive = writeZip(scratch, 'a.zip', {
    'libtorch/lib/libtorch_cpu.so': library('x'.repeat(2_000_000 - 64)),
    'libtorch/build-version': `${version}+cpu\n`,
  })
  const installed = libtorch(['install', '--from', archive], env)
  t.is(installed.status, 0, installed.stderr)
  const folder = join(env.POSTTRAIN_CACHE, 'libtorch', `${version}+cpu`, 'torch')
  // The folder alone, for scripts.
  t.is(installed.stdout, `${folder}\n`)
  t.regex(installed.stderr, /Unpacking a\.zip: .*MB of 2\.0 MB\n(.*\n)*libtorch 2\.13\.0\+cpu installed\n$/)
  t.is(libtorch(['path'], env).stdout, `${folder}\n`)
  t.deepEqual(JSON.parse(libtorch(['list', '--json'], env).stdout), {
    libtorch: [{ version: `${version}+cpu`, folder, bytes: 2_000_000, whole: true, taken: true }],
  })
  rmSync(join(folder, 'lib/libtorch_cpu.so'))
  t.regex(libtorch(['list'], env).stdout, /^ {2}2\.13\.0\+cpu +2 MB .*incomplete/)
  const wrong = libtorch(['remove', '1.0.0'], env)
  t.is(wrong.status, 1)
  t.regex(wrong.stderr, /no libtorch 1\.0\.0 in .*there is 2\.13\.0\+cpu/)
  t.is(libtorch(['remove', `${version}+cpu`], env).status, 0)
  t.deepEqual(readdirSync(join(env.POSTTRAIN_CACHE, 'libtorch')), [])
  mkdirSync(join(env.POSTTRAIN_CACHE, 'libtorch/downloads'))
  t.is(libtorch(['remove', 'all'], env).status, 0)
  t.deepEqual(readdirSync(join(env.POSTTRAIN_CACHE, 'libtorch')), [])
})

test('a wrong use is exit code 2, a failure 1 in one sentence', (t) => {
  const env = { POSTTRAIN_CACHE: join(scratch, 'other') }
  for (const args of [['install', '--variant', 'rocm'], ['install', '--form', 'x'], ['remove'], ['bring']])
    t.is(libtorch(args, env).status, 2, args.join(' '))
  const offline = libtorch(['install', '--variant', 'cpu'], env)
  t.is(offline.status, 1)
  t.regex(
    offline.stderr,
    /^posttrain libtorch install: POSTTRAIN_OFFLINE=1 forbids downloading .*--from FILE`\.\n$/,
  )
})

test('urls: all that a machine without a network needs, from the mirror where one is set', (t) => {
  const { stdout } = libtorch(['urls', '--json'], { POSTTRAIN_LIBTORCH_MIRROR: 'http://mirror.invalid/x/' })
  const told = JSON.parse(stdout) as { archives: Record<string, unknown>[]; nvidia: string[] }
  t.deepEqual(
    told.archives.find(({ platform, variant }) => platform === 'linux-x64' && variant === 'cpu'),
    {
      platform: 'linux-x64',
      variant: 'cpu',
      name: 'libtorch-shared-with-deps-2.13.0+cpu.zip',
      url: 'http://mirror.invalid/x/cpu/libtorch-shared-with-deps-2.13.0%2Bcpu.zip',
      bytes: 126385248,
      sha256: 'edbf4cbed78433d803e90a65f1752e57783d164bce66c95c0872b2ab8f5c159e',
    },
  )
  t.true(told.nvidia.includes('nvidia-cudnn-cu13==9.20.0.48'))
  t.regex(libtorch(['urls'], {}).stdout, /^cpu\n {2}https:.*\n {2}\d+ bytes, sha256 [0-9a-f]{64}\n/)
})

test('a transfer is a bar on a terminal, and a line at its start and every 20 seconds elsewhere', (t) => {
  let [text, now] = ['', 0]
  const write = (part: string) => {
    text += part
  }
  const file = new TransferProgress({ write }, () => now)
  for (; now <= 30_000; now += 1000) file.show('Fetching', now * 1000, 30_000_000)
  file.line('done')
  t.is(text, 'Fetching: 0.0 MB of 30 MB\nFetching: 20 MB of 30 MB, 1.0 MB/s, 10s left\ndone\n')
  text = ''
  now = 0
  const terminal = new TransferProgress({ write, isTTY: true, columns: 100 }, () => now)
  terminal.show('Fetching', 0, 40e6)
  now = 2000
  terminal.show('Fetching', 20e6, 40e6)
  terminal.line('done')
  t.deepEqual(text.split('\r\u001b[K').slice(1), [
    `[${'.'.repeat(18)}] Fetching: 0.0 MB of 40 MB`,
    `[${'#'.repeat(9)}${'.'.repeat(9)}] Fetching: 20 MB of 40 MB, 10 MB/s, 2s left`,
    'done\n',
  ])
})

test('names from outside act on no terminal', (t) => {
  let text = ''
  const write = (part: string) => {
    text += part
  }
  const transfer = new TransferProgress({ write })
  transfer.show('\x1b]0;owned\x07a', 1, 2)
  transfer.line('b\x1b[2J')
  const repository = 'org/\x1b[8mhidden'
  const files = [{ path: 'a', bytes: 1 }]
  new HubProgress({ write }).show({ type: 'start', repository, direction: 'download', files, totalBytes: 1 })
  t.false(text.includes('\x07') || text.includes('\x1b'))
  t.regex(text, /\\e]0;owned\\x07a: .*\nb\\e\[2J\nFetching org\/\\e\[8mhidden/)
})
