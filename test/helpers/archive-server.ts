import { readFileSync, statSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a server does to a request: the n-th, from 0. */
export type Behaviour =
  | 'serve'
  /**
   * Half of what is asked for; the connection breaks when the file at this path has those bytes: what is in the
   * client's memory alone is lost with the connection.
   */
  | { cutAt: string }
  /** A few bytes, then nothing more. */
  | 'stall'
  /** The right number of wrong bytes. */
  | 'lie'
  /** A file of another length. */
  | 'longer'
  | 'refuse'

export interface ArchiveServer {
  url: string
  /** The Range of each request, or `all`; in order. */
  asked: string[]
  close: () => void
}

/** A server of one file, which understands Range; what it does to the first requests is given, the rest are served. */
export async function serveArchive(path: string, ...behaviours: Behaviour[]): Promise<ArchiveServer> {
  const bytes = readFileSync(path)
  const asked: string[] = []
  const server = createServer((request, response) => {
    const behaviour = behaviours[asked.length] ?? 'serve'
    asked.push(request.headers.range ?? 'all')
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    answer(response, bytes, from, behaviour)
  })
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked, close }
}

function answer(response: ServerResponse, bytes: Buffer, from: number, behaviour: Behaviour): void {
  if (behaviour === 'refuse') {
    response.writeHead(403).end('no')
    return
  }
  const sent = behaviour === 'longer' ? Buffer.concat([bytes, Buffer.from('more')]) : bytes
  const part = sent.subarray(from)
  const range = { 'Content-Range': `bytes ${from}-${sent.length - 1}/${sent.length}` }
  response.writeHead(from > 0 ? 206 : 200, { 'Content-Length': part.length, ...(from > 0 && range) })
  if (typeof behaviour === 'object') {
    const half = part.length >> 1
    response.write(part.subarray(0, half))
    const timer = setInterval(() => {
      if (statSync(behaviour.cutAt, { throwIfNoEntry: false })?.size === from + half) response.destroy()
    }, 5)
    response.on('close', () => clearInterval(timer))
    return
  }
  switch (behaviour) {
    case 'stall':
      response.write(part.subarray(0, 100))
      break
    case 'lie':
      response.end(Buffer.alloc(part.length, 7))
      break
    case 'serve':
    case 'longer':
      response.end(part)
      break
    default:
      behaviour satisfies never
  }
}
