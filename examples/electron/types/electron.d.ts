/**
 * The part of Electron's API that this app uses, for checking its types where Electron is not installed. The app's own
 * tsconfig.json leaves this file out and takes Electron's types.
 */
declare module 'electron' {
  interface Event {
    preventDefault(): void
  }
  interface IpcEvent {
    senderFrame: { url: string } | null
  }
  interface WebContents {
    send(channel: string, message: unknown): void
    setWindowOpenHandler(handler: () => { action: 'deny' }): void
    on(event: 'will-navigate', listener: (event: Event) => void): void
  }
  export class BrowserWindow {
    constructor(options: {
      width: number
      height: number
      webPreferences: {
        preload: string
        contextIsolation: boolean
        sandbox: boolean
        nodeIntegration: boolean
      }
    })
    readonly webContents: WebContents
    on(event: 'closed', listener: () => void): void
    loadURL(url: string): Promise<void>
  }
  export interface UtilityProcess {
    postMessage(message: unknown): void
    // biome-ignore lint/suspicious/noExplicitAny: as Electron has it
    on(event: 'message', listener: (message: any) => void): void
    on(event: 'exit', listener: (code: number) => void): void
  }
  /** `process.parentPort` of a utility process. */
  export interface ParentPort {
    postMessage(message: unknown): void
    on(event: 'message', listener: (event: { data: unknown }) => void): void
  }
  export const utilityProcess: {
    fork(
      path: string,
      argv: string[],
      options: { serviceName: string; allowLoadingUnsignedLibraries: boolean },
    ): UtilityProcess
  }
  export const app: {
    on(event: 'before-quit', listener: (event: Event) => void): void
    on(event: 'window-all-closed', listener: () => void): void
    quit(): void
    whenReady(): Promise<void>
  }
  export const protocol: {
    registerSchemesAsPrivileged(
      schemes: { scheme: string; privileges: { standard: boolean; secure: boolean } }[],
    ): void
    handle(scheme: string, handler: (request: Request) => Response | Promise<Response>): void
  }
  export const net: { fetch(url: string): Promise<Response> }
  export const dialog: {
    showOpenDialog(
      window: BrowserWindow,
      options: { properties: ('openFile' | 'openDirectory' | 'createDirectory')[] },
    ): Promise<{ canceled: boolean; filePaths: string[] }>
  }
  export const ipcMain: {
    on(channel: string, listener: (event: IpcEvent, message: unknown) => void): void
    handle(channel: string, handler: (event: IpcEvent, argument: unknown) => unknown): void
  }
  export const ipcRenderer: {
    send(channel: string, message: unknown): void
    on(channel: string, listener: (event: unknown, message: unknown) => void): void
    invoke(channel: string, argument: unknown): Promise<unknown>
  }
  export const contextBridge: { exposeInMainWorld(name: string, value: unknown): void }
}
