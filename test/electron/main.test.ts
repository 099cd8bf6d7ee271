import { type ChildProcess, fork } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'
import { newFolder } from '../helpers/scratch.js'
import { choiceOf } from './trainer-child.js'

// The main process in plain Node, with a module in the place of Electron's; Electron itself is not run.
const page = 'app://posttrain/page/index.html'
const fake = new URL('./electron-fake.js', import.meta.url).href
const hooks = `export const resolve = (name, context, next) =>
  name === 'electron' ? { url: '${fake}', shortCircuit: true } : next(name, context)`
const register = `import { register } from 'node:module'
register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hooks))})`

type Told = Record<string, unknown> & { message?: { type: string; [name: string]: unknown } }

/** The main process of the example, laid out as the app is. */
class Main {
  readonly child: ChildProcess
  readonly exit: Promise<number | null>
  readonly told: Told[] = []
  #seen = 0
  #arrived = () => {}

  constructor(t: ExecutionContext) {
    const folder = newFolder(t)
    cpSync(join(packageRoot(), 'dist/examples/electron/src'), join(folder, 'dist/src'), { recursive: true })
    cpSync(join(packageRoot(), 'examples/electron'), folder, { recursive: true })
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(packageRoot(), join(folder, 'node_modules/posttrain'))
    const execArgv = ['--import', `data:text/javascript,${encodeURIComponent(register)}`]
    this.child = fork(join(folder, 'dist/src/main.js'), { execArgv })
    this.exit = new Promise((done) => this.child.once('exit', done))
    this.child.on('message', (message: Told) => {
      this.told.push(message)
      this.#arrived()
    })
    t.teardown(() => this.child.kill('SIGKILL'))
  }

  send(...message: unknown[]): void {
    this.child.send(message)
  }

  async next(wanted: (told: Told) => boolean): Promise<Told> {
    for (;;) {
      while (this.#seen < this.told.length) {
        const told = this.told[this.#seen++]!
        if (wanted(told)) return told
      }
      await new Promise<void>((done) => {
        this.#arrived = done
      })
    }
  }
  report(type: string): Promise<Told> {
    return this.next(({ channel, message }) => channel === 'report' && message?.type === type)
  }
}

test.serial('the window is locked up, and the app serves its page and nothing else', async (t) => {
  const main = new Main(t)
  const { window } = (await main.next((told) => 'window' in told)) as unknown as {
    window: { webPreferences: Record<string, unknown> }
  }
  t.like(window.webPreferences, { contextIsolation: true, sandbox: true, nodeIntegration: false })
  t.true(existsSync(window.webPreferences.preload as string))
  t.deepEqual((await main.next((told) => 'opensOthers' in told)).opensOthers, { action: 'deny' })
  t.is((await main.next((told) => 'loaded' in told)).loaded, page)
  const status = async (path: string) => {
    main.send('file', `app://posttrain/${path}`)
    return (await main.next((told) => 'file' in told)).status
  }
  t.is(await status('page/index.html'), 200)
  t.is(await status('page/style.css'), 200)
  for (const path of [
    'package.json',
    'page/..%2fpackage.json',
    'dist/src/main.js',
    'page%2f..%2f..%2f..%2f..%2fetc%2fpasswd',
  ])
    t.is(await status(path), 404, path)
  const choose = async (url: string, what: string) => {
    main.send('choose', url, what)
    return (await main.next((told) => 'chosen' in told)).chosen
  }
  t.is(await choose(page, 'data'), 'a file')
  t.is(await choose(page, 'model'), null)
  t.is(await choose('https://example.com/', 'data'), null)
  main.send('quit')
  t.is(await main.exit, 0)
})

test.serial(
  'commands of the page reach the trainer and its reports the page; a dead trainer is told and started anew; quitting saves',
  async (t) => {
    const main = new Main(t)
    const choice = await choiceOf(t, 64, { epochs: 100_000 })
    const train = { type: 'train', choice }
    // None of these is for the trainer, which is not even started.
    main.send('command', 'https://example.com/', train)
    main.send('command', page, { type: 'train' })
    main.send('command', page, { type: 'quit' })
    main.send('command', page, train)
    await main.report('start')
    await main.report('step')
    const trainers = () => main.told.flatMap(({ trainer }) => (typeof trainer === 'number' ? [trainer] : []))
    t.is(trainers().length, 1)
    process.kill(trainers()[0]!, 'SIGKILL')
    t.like((await main.report('error')).message, { during: 'process' })

    main.send('command', page, { type: 'train', choice: { ...choice, output: `${choice.output}-2` } })
    await main.report('step')
    t.is(trainers().length, 2)
    main.send('quit')
    t.is(await main.exit, 0)
    t.true(existsSync(join(`${choice.output}-2`, 'model/model.safetensors')))
    t.throws(() => process.kill(trainers()[1]!, 0), { code: 'ESRCH' })
  },
)

test('the preload script gives the page three functions, and not the event that holds the sender', async (t) => {
  const source = readFileSync(join(packageRoot(), 'dist/examples/electron/src/preload.cjs'), 'utf8')
  const calls: unknown[][] = []
  const exposed: Record<string, Record<string, (argument: unknown) => unknown>> = {}
  let report: (event: unknown, message: unknown) => void = () => {}
  const electron = {
    contextBridge: {
      exposeInMainWorld: (name: string, value: never) => Object.assign(exposed, { [name]: value }),
    },
    ipcRenderer: {
      send: (...argv: unknown[]) => calls.push(argv),
      invoke: async (...argv: unknown[]) => calls.push(argv),
      on: (channel: string, listener: typeof report) => {
        t.is(channel, 'report')
        report = listener
        return 'the renderer itself'
      },
    },
  }
  new Function('require', 'exports', source)((name: string) => {
    // A sandboxed preload can require this alone.
    t.is(name, 'electron')
    return electron
  }, {})
  const { send, onReport, choose, ...more } = exposed.trainer!
  t.deepEqual(more, {})
  send!({ type: 'abort', now: false })
  await choose!('data')
  t.deepEqual(calls, [
    ['command', { type: 'abort', now: false }],
    ['choose', 'data'],
  ])
  const reports: unknown[][] = []
  const given = onReport!((...argv: unknown[]) => reports.push(argv))
  t.is(given, undefined)
  report({ sender: 'secret' }, { type: 'ready' })
  t.deepEqual(reports, [[{ type: 'ready' }]])
})
