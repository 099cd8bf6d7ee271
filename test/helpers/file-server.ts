import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ExecutionContext } from 'ava'

/** How one request is answered; what a list of these lacks is answered well. */
export type Fault = (request: IncomingMessage, response: ServerResponse, file: Buffer) => void

/** A server on the loopback interface, closed with the test. */
export async function serve(
  t: ExecutionContext,
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A file as servers give it, or the part from the byte that Range names. */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  file: Buffer,
  etag = '"first"',
): void {
  const { range, 'if-range': ifRange } = request.headers
  const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0)
  if (from === 0 || (ifRange !== undefined && ifRange !== etag)) {
    response.writeHead(200, { 'Content-Length': file.length, ETag: etag }).end(file)
  } else if (from >= file.length) {
    response.writeHead(416, { 'Content-Range': `bytes */${file.length}` }).end()
  } else {
    const part = file.subarray(from)
    response.writeHead(206, {
      'Content-Length': part.length,
      'Content-Range': `bytes ${from}-${file.length - 1}/${file.length}`,
      ETag: etag,
    })
    response.end(part)
  }
}

/** Serves one file; the faults answer the first requests. `asked` are the Range headers in order. */
export async function faultyServer(
  t: ExecutionContext,
  file: Buffer,
  faults: Fault[] = [],
): Promise<{ url: string; asked: (string | undefined)[] }> {
  const asked: (string | undefined)[] = []
  const url = await serve(t, (request, response) => {
    const fault = faults[asked.length]
    asked.push(request.headers.range)
    if (fault) fault(request, response, file)
    else sendFile(request, response, file)
  })
  return { url: `${url}/file.bin`, asked }
}

/** Sends all headers and the bytes up to `end`, then cuts the connection, after a moment in which they are read. */
export const cut =
  (end: number, etag = '"first"'): Fault =>
  (request, response, file) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const headers = { 'Content-Length': file.length - from, ETag: etag }
    if (from === 0) response.writeHead(200, headers)
    else
      response.writeHead(206, {
        ...headers,
        'Content-Range': `bytes ${from}-${file.length - 1}/${file.length}`,
      })
    response.write(file.subarray(from, end), () => setTimeout(() => response.destroy(), 50))
  }

/** Sends the bytes up to `end` and nothing more. */
export const stall =
  (end: number): Fault =>
  (_, response, file) => {
    response.writeHead(200, { 'Content-Length': file.length, ETag: '"first"' })
    response.write(file.subarray(0, end))
  }
