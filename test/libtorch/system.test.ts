import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { findBuild } from '../../lib/addon/load.js'
import { findLibtorch } from '../../lib/libtorch/find/libtorch.js'
import { driverProblem, driverVersion, glibcVersion, systemProblem } from '../../lib/libtorch/find/system.js'
import { verifyLibtorch } from '../../lib/libtorch/find/verify.js'
import { newFolder } from '../helpers/scratch.js'

const scratch = newFolder()

test('an old glibc and musl are said, each with what to do; a good one and other systems are not', (t) => {
  t.regex(systemProblem('2.27')!, /glibc 2\.27, and libtorch needs 2\.28 or newer; use a newer/)
  t.regex(systemProblem('1.99')!, /glibc 1\.99/)
  t.regex(systemProblem(null)!, /musl instead of glibc.*instead of Alpine/)
  for (const glibc of ['2.28', '2.100', '3.0', undefined]) t.is(systemProblem(glibc), null)
  t.is(systemProblem(), null)
  if (process.platform === 'linux') t.regex(glibcVersion()!, /^\d+\.\d+$/)
})

test('the version of the driver, as both kinds of kernel module tell it', (t) => {
  const told = {
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 12.3.0':
      '535.104.05',
    'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder)\n':
      '580.65.06',
    'something else 1.2.3\n': null,
  }
  for (const [text, version] of Object.entries(told)) {
    const file = join(scratch, 'version')
    writeFileSync(file, text)
    t.is(driverVersion(file), version)
  }
  t.is(driverVersion(join(scratch, 'nowhere')), null)
})

test('a driver older than CUDA 13 asks for is said', (t) => {
  t.is(driverProblem('535.104.05'), 'the NVIDIA driver 535.104.05 is older than 580.65, which CUDA 13 needs')
  t.truthy(driverProblem('580.9'))
  for (const driver of [null, '580.65', '580.65.06', '580.95.05', '600.1']) t.is(driverProblem(driver), null)
})

test.serial('with an old driver the CUDA libraries stay closed, and the verdict says why', async (t) => {
  const cache = process.env.POSTTRAIN_CACHE
  const libtorch = findLibtorch()
  process.env.POSTTRAIN_CACHE = scratch
  try {
    // A folder of the CPU's libraries, and something in the place of CUDA's.
    const libraries = join(scratch, 'lib')
    mkdirSync(libraries)
    for (const name of readdirSync(libtorch.libraries))
      if (!name.includes('cuda.so')) symlinkSync(join(libtorch.libraries, name), join(libraries, name))
    writeFileSync(join(libraries, 'libtorch_cuda.so'), 'not opened')
    const of = { ...libtorch, folder: scratch, libraries }
    const { stub } = findBuild()
    const verdict = await verifyLibtorch(stub, of, 'auto', '535.104.05')
    t.like(verdict, { mode: 'off', cuda: false })
    t.regex(verdict.cudaError, /older than 580\.65/)
    // A newer driver is another question.
    t.is((await verifyLibtorch(stub, of, 'auto', '580.95.05')).cudaError, '')
  } finally {
    if (cache === undefined) delete process.env.POSTTRAIN_CACHE
    else process.env.POSTTRAIN_CACHE = cache
  }
})
