import { existsSync } from 'node:fs'
import test from 'ava'
import { runNode } from './child.js'
import { newFolder } from './scratch.js'

test('a folder of a test is there until the test ends', (t) => {
  const ends: (() => unknown)[] = []
  const folder = newFolder({ teardown: (end) => void ends.push(end) })
  t.true(existsSync(folder))
  for (const end of ends) end()
  t.false(existsSync(folder))
})

const SIGNAL = "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 60_000)"

test('folders of a file are removed when its process ends, by an error or a signal too', async (t) => {
  const module = JSON.stringify(new URL('./scratch.js', import.meta.url).href)
  for (const end of ['', "throw new Error('on purpose')", 'process.exit(3)', SIGNAL]) {
    const program = `import { newFolder } from ${module}
      import { existsSync, writeFileSync } from 'node:fs'
      const folders = [newFolder(), newFolder()]
      for (const folder of folders) writeFileSync(folder + '/file', '')
      console.log(JSON.stringify(folders.filter(existsSync)))
      ${end}`
    const { stdout, signal } = await runNode(['--input-type=module', '-e', program])
    const folders: string[] = JSON.parse(stdout)
    t.is(folders.length, 2)
    t.is(signal, end === SIGNAL ? 'SIGTERM' : null)
    t.deepEqual(folders.filter(existsSync), [], end)
  }
})
