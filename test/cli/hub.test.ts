import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { HubProgress } from '../../lib/cli/hub-progress.js'
import { CausalLM } from '../../lib/index.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { filesIn, startHub } from '../helpers/hub-server.js'
import { newFolder } from '../helpers/scratch.js'

// Bars of ASCII, whatever the locale of this machine.
process.env.LC_ALL = 'C'

test.serial('model, adapter and data of the Hub on the command line', async (t) => {
  const { hub } = await startHub(t)
  hub.commit('datasets/org/rows', {
    'train.jsonl': '{"prompt":"a","completion":" b"}\n{"prompt":"c","completion":" d"}\n',
  })
  const folder = newFolder(t)
  const output = join(folder, 'run')
  const data = 'hf://datasets/org/rows/train.jsonl'
  const argv = ['sft', '--model', 'org/tiny', '--data', data, '--max-steps', '1', '--template', 'plain']
  const run = await posttrain([...argv, '--lora-rank', '2', '--output', output, '--json'])
  t.is(run.code, 0, run.stderr)
  t.is(eventsIn(run.stdout).at(-1)?.type, 'end')
  t.regex(run.stderr, /^Fetching org\/tiny: 5 files, \d+ kB$/m)
  t.regex(run.stderr, /^Fetching the dataset org\/rows: 1 file,/m)
  t.regex(run.stderr, /^Fetched org\/tiny: /m)
  const adapter = join(output, 'adapter')
  t.is(
    JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8')).base_model_name_or_path,
    'org/tiny',
  )
  hub.commit('models/org/adapter', filesIn(adapter))
  const merged = join(folder, 'merged')
  const merge = ['merge', '--model', 'org/tiny@main', '--adapter', 'org/adapter', '--output', merged]
  const done = await posttrain(merge)
  t.is(done.code, 0, done.stderr)
  await (await CausalLM.load(merged)).dispose()
  const wrong = await posttrain(['generate', '--model', 'org/none', '--prompt', 'a'])
  t.is(wrong.code, 1)
  t.regex(wrong.stderr, /^posttrain \w+: org\/none is neither a local path nor a model on .*\n$/)
})

test('the bar of a download, and the lines where there is no terminal', (t) => {
  const drawn = (isTTY: boolean) => {
    let text = ''
    let now = 1000
    const progress = new HubProgress({ isTTY, columns: 100, write: (piece) => (text += piece) }, () => now)
    const repository = 'org/big'
    progress.show({
      type: 'start',
      repository,
      direction: 'download',
      files: [{ path: 'a', bytes: 4e9 }],
      totalBytes: 4e9,
    })
    progress.show({ type: 'progress', repository, receivedBytes: 0, totalBytes: 4e9 })
    for (let second = 1; second <= 20; second++) {
      now += 1000
      progress.show({ type: 'progress', repository, receivedBytes: second * 1e8, totalBytes: 4e9 })
    }
    progress.show({ type: 'retry', repository, path: 'a', reason: 'it was cut' })
    progress.show({ type: 'unreachable', repository, reason: 'nothing answers' })
    progress.show({ type: 'end', repository, direction: 'download', path: '/cache' })
    return text
  }
  t.is(
    drawn(false),
    [
      'Fetching org/big: 1 file, 4.00 GB',
      '1.00 GB of 4.00 GB, 100.0 MB/s, 30s left',
      '2.00 GB of 4.00 GB, 100.0 MB/s, 20s left',
      'Continuing a: it was cut',
      'Warning: org/big is used from the cache: nothing answers',
      'Fetched org/big: /cache',
      '',
    ].join('\n'),
  )
  const bar = drawn(true)
  t.true(
    bar.includes(`\r\u001b[K[${'#'.repeat(14)}${'.'.repeat(14)}] 2.00 GB of 4.00 GB, 100.0 MB/s, 20s left`),
  )
  t.true(bar.endsWith('Fetched org/big: /cache\n'))
})
