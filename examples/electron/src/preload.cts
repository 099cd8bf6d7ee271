/** The page's only access to the rest of the app: three functions. A sandboxed preload is one CommonJS file. */
import type { Bridge, Report } from './protocol.js' with { 'resolution-mode': 'import' }

const { contextBridge, ipcRenderer } = require('electron') as typeof import('electron')

const bridge: Bridge = {
  send: (command) => ipcRenderer.send('command', command),
  onReport(listener) {
    ipcRenderer.on('report', (_event, report) => listener(report as Report))
  },
  choose: (what) => ipcRenderer.invoke('choose', what) as Promise<string | null>,
}
contextBridge.exposeInMainWorld('trainer', bridge)
