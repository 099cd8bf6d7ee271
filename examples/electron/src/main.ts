/** The main process: a window, the trainer's process, and the messages between them. */
import { join, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  app,
  BrowserWindow,
  dialog,
  ipcMain,
  net,
  protocol,
  type UtilityProcess,
  utilityProcess,
} from 'electron'
import { type Command, isCommand, type Report } from './protocol.js'

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]dist[\\/]?$/, sep)
const start = 'app://posttrain/page/index.html'

let window: BrowserWindow | null = null
let trainer: UtilityProcess | null = null
let quitting = false

const tell = (report: Report) => window?.webContents.send('report', report)

function startTrainer(): UtilityProcess {
  const child = utilityProcess.fork(fileURLToPath(new URL('./trainer-process.js', import.meta.url)), [], {
    serviceName: 'posttrain',
    // macOS: libtorch is signed by others than this app.
    allowLoadingUnsignedLibraries: true,
  })
  child.on('message', (report: Report) => tell(report))
  child.on('exit', (code) => {
    trainer = null
    if (quitting) app.quit()
    else
      tell({
        type: 'error',
        during: 'process',
        code: `EXIT_${code}`,
        message: `The trainer process exited with code ${code}.`,
      })
  })
  return child
}

/** Sends a command to the trainer, which is started by the first one and after it has died. */
function send(command: Command): void {
  trainer ??= startTrainer()
  trainer.postMessage(command)
}

/** Serves the files of this app's page and nothing else. */
function serveFiles(): void {
  protocol.handle('app', (request) => {
    const path = join(root, decodeURIComponent(new URL(request.url).pathname))
    const allowed = [join(root, 'page') + sep, join(root, 'dist', 'page') + sep].some((folder) =>
      path.startsWith(folder),
    )
    return allowed ? net.fetch(pathToFileURL(path).toString()) : new Response('not found', { status: 404 })
  })
}

function openWindow(): void {
  window = new BrowserWindow({
    width: 1080,
    height: 760,
    webPreferences: {
      preload: fileURLToPath(new URL('./preload.cjs', import.meta.url)),
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
    },
  })
  window.on('closed', () => {
    window = null
  })
  window.webContents.setWindowOpenHandler(() => ({ action: 'deny' }))
  window.webContents.on('will-navigate', (event) => event.preventDefault())
  void window.loadURL(start)
}

protocol.registerSchemesAsPrivileged([{ scheme: 'app', privileges: { standard: true, secure: true } }])

ipcMain.on('command', (event, message: unknown) => {
  if (event.senderFrame?.url === start && isCommand(message) && message.type !== 'quit') send(message)
})

ipcMain.handle('choose', async (event, what: unknown) => {
  if (event.senderFrame?.url !== start || window === null) return null
  const { canceled, filePaths } = await dialog.showOpenDialog(window, {
    properties: what === 'data' ? ['openFile'] : ['openDirectory', 'createDirectory'],
  })
  return canceled ? null : (filePaths[0] ?? null)
})

// Finishes and saves the current step before the app quits.
app.on('before-quit', (event) => {
  if (trainer === null) return
  event.preventDefault()
  if (!quitting) trainer.postMessage({ type: 'quit' } satisfies Command)
  quitting = true
})
app.on('window-all-closed', () => app.quit())

void app.whenReady().then(() => {
  serveFiles()
  openWindow()
})
