import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'

const load = (name: string) => import(pathToFileURL(join(packageRoot(), 'scripts/lint', name)).href)

function folderWith(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'posttrain-lint-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

test('an import or include against the directions is found with its line', async (t) => {
  const { wrongDirections } = await load('directions.mjs')
  const folder = folderWith({
    'lib/errors.ts': 'export {}',
    'lib/models/a.ts': "import { e } from '../errors.js'\nimport { s } from '../train/sft.js'\n",
    'lib/train/sft.ts': "import { a } from '../models/a.js'\nimport { b } from './b.js'\n",
    'lib/losses/a.ts': "import type { D } from '../data/rows.js'\n",
    'lib/utils/a.ts': '',
    'native/nn/a.cpp': '#include "core/a.h"\n#include "models/a.h"\n#include <napi.h>\n',
    'native/train/a.cpp': '#include <torch/torch.h>\n#include "nn/a.h"\n',
  })
  t.deepEqual(wrongDirections(folder).sort(), [
    'lib/losses/a.ts:1: losses may not import data',
    'lib/models/a.ts:2: models may not import train',
    'lib/utils/a.ts: the room utils has no place in the directions',
    'native/nn/a.cpp:2: nn may not include models',
    'native/nn/a.cpp:3: nn may not include Node-API (napi.h)',
    'native/train/a.cpp:1: torch/torch.h triples the compile time; include what is used',
  ])
  rmSync(folder, { recursive: true })
})

test('a path of one machine and a download address are found in committed files', async (t) => {
  const { committedPaths } = await load('committed-paths.mjs')
  const home = ['', 'root', 'x'].join('/')
  const folder = folderWith({
    'a.ts': `const cache = '${home}'\nconst fine = 'https://example.org/home/page'\n`,
    'package-lock.json': '{\n  "resolved": "https://example.org/a.tgz"\n}\n',
    'ignored.ts': `'${home}'\n`,
  })
  execFileSync('git', ['init', '-q'], { cwd: folder })
  execFileSync('git', ['add', 'a.ts', 'package-lock.json'], { cwd: folder })
  const found: string[] = committedPaths(folder)
  t.deepEqual(
    found.map((line) => line.split(': ')[0]),
    ['a.ts:1', 'package-lock.json:2'],
  )
  rmSync(folder, { recursive: true })
})
