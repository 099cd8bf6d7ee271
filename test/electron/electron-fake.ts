// Stands in for the module 'electron' in main.test.ts: what main.ts asks of it is told to the test, the test's own
// messages come as events, and a utilityProcess is a forked one.
import { fork } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const tell = (message: Record<string, unknown>) => process.send!(message)
const handlers = new Map<string, (...argv: unknown[]) => unknown>()

class App extends EventEmitter {
  async whenReady() {}
  quit() {
    let prevented = false
    const preventDefault = () => {
      prevented = true
    }
    this.emit('before-quit', { preventDefault })
    if (!prevented) process.exit(0)
  }
}
export const app = new App()

export class BrowserWindow extends EventEmitter {
  readonly webContents = Object.assign(new EventEmitter(), {
    send: (channel: string, message: unknown) => tell({ channel, message }),
    setWindowOpenHandler: (handler: () => unknown) => tell({ opensOthers: handler() }),
  })
  constructor(options: object) {
    super()
    tell({ window: options })
  }
  async loadURL(url: string) {
    tell({ loaded: url })
  }
}

export const utilityProcess = {
  fork(path: string, argv: string[], options: object) {
    const child = fork(path, argv, { env: { ...process.env, OMP_NUM_THREADS: '1' } })
    tell({ trainer: child.pid, options })
    return Object.assign(child, { postMessage: (message: object) => child.send(message) })
  },
}

export const protocol = {
  registerSchemesAsPrivileged: (schemes: unknown) => tell({ schemes }),
  handle: (name: string, handler: (...argv: unknown[]) => unknown) => handlers.set(`${name}:`, handler),
}
export const net = {
  fetch: async (url: string): Promise<unknown> => new Response(readFileSync(fileURLToPath(url))),
}
export const dialog = {
  showOpenDialog: async (_window: unknown, { properties }: { properties: string[] }) =>
    properties.includes('openFile')
      ? { canceled: false, filePaths: ['a file'] }
      : { canceled: true, filePaths: [] },
}
export const ipcMain = Object.assign(new EventEmitter(), {
  handle: (channel: string, handler: (...argv: unknown[]) => unknown) => handlers.set(channel, handler),
})

process.on('message', async ([what, ...argv]: [string, ...unknown[]]) => {
  if (what === 'quit') app.quit()
  if (what === 'command') {
    const [url, message] = argv
    ipcMain.emit('command', { senderFrame: { url } }, message)
  }
  if (what === 'choose') {
    const [url, kind] = argv
    tell({ chosen: await handlers.get('choose')!({ senderFrame: { url } }, kind) })
  }
  if (what === 'file') {
    const response = (await handlers.get('app:')!(new Request(String(argv[0])))) as Response
    tell({ file: argv[0], status: response.status, length: (await response.text()).length })
  }
})
