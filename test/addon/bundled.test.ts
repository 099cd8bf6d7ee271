import { execFile } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { build, type Format } from 'esbuild'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'
import { newFolder } from '../helpers/scratch.js'

const program = `
import { PosttrainError, Tokenizer } from 'posttrain'
import { crossEntropy } from 'posttrain/losses'
crossEntropy(new Float32Array(4), Int32Array.of(0, 1)).then(
  ({ loss }) => console.log(loss.toFixed(4)),
  (error) => console.log(error instanceof PosttrainError, error.code, error.message),
)
`

/** What the program prints when it was bundled, in a folder of an app that has posttrain in its node_modules. */
async function bundled(t: ExecutionContext, format: Format, external: string[]): Promise<string> {
  const app = newFolder(t)
  writeFileSync(join(app, 'package.json'), '{"name":"app","private":true}')
  writeFileSync(join(app, 'app.js'), program)
  mkdirSync(join(app, 'node_modules'))
  symlinkSync(packageRoot(), join(app, 'node_modules/posttrain'))
  const outfile = join(app, 'out', format === 'cjs' ? 'app.cjs' : 'app.mjs')
  await build({
    entryPoints: [join(app, 'app.js')],
    outfile,
    bundle: true,
    platform: 'node',
    format,
    external,
    logLevel: 'silent',
  })
  const { stdout } = await promisify(execFile)(process.execPath, [outfile])
  return stdout.trim()
}

for (const format of ['cjs', 'esm'] as const) {
  test(`a bundled app (${format}) that leaves posttrain outside computes`, async (t) => {
    t.is(await bundled(t, format, ['posttrain', 'posttrain/*']), '0.6931')
  })

  test(`posttrain bundled by mistake (${format}) says so`, async (t) => {
    t.regex(await bundled(t, format, []), /^true ERR_BUNDLED posttrain was bundled .* mark it as external/)
  })
}
