import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { AbortError } from '../../lib/errors.js'
import { type DownloadOptions, download } from '../../lib/files/download.js'
import { discard, request, textOf } from '../../lib/files/http.js'
import { proxyFor } from '../../lib/files/proxy.js'
import { cut, type Fault, faultyServer, sendFile, serve, stall } from '../helpers/file-server.js'
import { newFolder } from '../helpers/scratch.js'

const file = randomBytes(300_000)
const sha256 = createHash('sha256').update(file).digest('hex')
const quick = { retryDelayMs: 1 }

function keepEnvironment(): () => void {
  const before = { ...process.env }
  return () => {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    Object.assign(process.env, before)
  }
}

async function fetched(
  t: ExecutionContext,
  faults: Fault[],
  options: DownloadOptions = {},
): Promise<{ path: string; asked: (string | undefined)[]; retries: string[] }> {
  const { url, asked } = await faultyServer(t, file, faults)
  const path = join(newFolder(), 'in', 'file.bin')
  const retries: string[] = []
  const onRetry = ({ message }: Error) => retries.push(message)
  const { bytes } = await download(url, path, { ...quick, sha256, onRetry, ...options })
  t.is(bytes, file.length)
  t.deepEqual(readFileSync(path), file)
  t.deepEqual(readdirSync(join(path, '..')), ['file.bin'])
  return { path, asked, retries }
}

/** The error, the bytes that are left of the file, and the ranges asked for. */
async function refused(t: ExecutionContext, faults: Fault[], options: DownloadOptions = {}) {
  const { url, asked } = await faultyServer(t, file, faults)
  const path = join(newFolder(), 'file.bin')
  const error = await t.throwsAsync(download(url, path, { ...quick, sha256, ...options }))
  t.false(existsSync(path))
  const partial = `${path}.partial`
  return { error, asked, url, left: existsSync(partial) ? readFileSync(partial) : null }
}

test('a file comes whole, with its progress', async (t) => {
  const seen: number[] = []
  const { asked } = await fetched(t, [], {
    onProgress: ({ receivedBytes, totalBytes }) => {
      t.is(totalBytes, file.length)
      seen.push(receivedBytes)
    },
  })
  t.deepEqual(asked, [undefined])
  t.is(seen.at(-1), file.length)
  t.deepEqual(
    seen,
    [...seen].sort((a, b) => a - b),
  )
})

test('an interrupted download resumes where it was', async (t) => {
  const { asked, retries } = await fetched(t, [cut(100_000), cut(200_000)])
  t.is(asked.length, 3)
  t.is(asked[0], undefined)
  for (const range of asked.slice(1)) t.regex(range!, /^bytes=[1-9]\d*-$/)
  t.is(retries.length, 2)
})

// Serial, so that what else this process does is no silence of the server.
test.serial('a server that stalls is asked again', async (t) => {
  const { retries } = await fetched(t, [stall(50_000), () => undefined], { stallTimeoutMs: 400 })
  t.is(retries.length, 2)
  for (const reason of retries) t.regex(reason, /no data for 0\.4 seconds/)
})

test.serial('a server that sends byte by byte is asked again, in the body as in the headers', async (t) => {
  const drop = (send: () => void, response: ServerResponse) => {
    const timer = setInterval(send, 50)
    response.on('close', () => clearInterval(timer))
  }
  const slowBody: Fault = (_, response) => {
    response.writeHead(200, { 'Content-Length': file.length })
    let at = 0
    drop(() => response.write(file.subarray(at, ++at)), response)
  }
  const slowHeaders: Fault = (_, response) => {
    response.socket!.write('HTTP/1.1 200 OK\r\n')
    drop(() => response.socket?.write('a: b\r\n'), response)
  }
  const information: Fault = (_, response) => drop(() => response.writeContinue(), response)
  const faults = [slowBody, slowHeaders, information]
  const { retries } = await fetched(t, faults, { stallTimeoutMs: 300 })
  t.is(retries.length, 3)
  t.regex(retries[0]!, /less than 1024 bytes a second for 0\.3 seconds/)
  for (const reason of retries.slice(1)) t.regex(reason, /no response within 0\.6 seconds/)
})

test('a text that has no end, or takes too long, is an error', async (t) => {
  const url = await serve(t, (request, response) => {
    response.writeHead(200)
    const send = () => response.write(request.url === '/slow' ? 'x' : Buffer.alloc(2 ** 19))
    const timer = setInterval(send, 20)
    response.on('close', () => clearInterval(timer))
  })
  const text = async (path: string, timeoutMs: number) =>
    textOf(await request(url + path), { limit: 2 ** 20, timeoutMs })
  await t.throwsAsync(text('/slow', 800), { code: 'ERR_NETWORK', message: /took longer than 0\.8 seconds/ })
  await t.throwsAsync(text('/long', 60_000), { code: 'ERR_NETWORK', message: /is longer than 1048576 bytes/ })
})

test('a body that nobody reads is let go however long it is', async (t) => {
  let closed = () => {}
  const gone = new Promise<void>((resolve) => {
    closed = resolve
  })
  const url = await serve(t, (_, response) => {
    response.on('close', closed)
    const send = () => {
      while (!response.destroyed && response.write(Buffer.alloc(2 ** 16)));
    }
    response.on('drain', send)
    send()
  })
  discard(await request(url))
  await gone
  t.pass()
})

test('503 and 429 are waited out', async (t) => {
  const busy =
    (status: number): Fault =>
    (_, response) =>
      response.writeHead(status, { 'Retry-After': '0' }).end('busy')
  const { asked } = await fetched(t, [busy(503), busy(429)])
  t.is(asked.length, 3)
})

test('a server without ranges sends all again', async (t) => {
  const whole: Fault = (_, response) => response.writeHead(200, { 'Content-Length': file.length }).end(file)
  const { asked } = await fetched(t, [cut(100_000), whole])
  t.is(asked.length, 2)
})

test('a file that changes between attempts is taken from its start', async (t) => {
  const old = randomBytes(file.length)
  // Without a hash only If-Range can tell; with one the hash tells too.
  for (const known of [undefined, sha256]) {
    const first: Fault = (request, response) => cut(100_000, '"old"')(request, response, old)
    const { asked } = await fetched(t, [first], known === undefined ? { sha256: undefined } : {})
    t.is(asked.length, 2)
  }
})

test('a part from another place than asked for is thrown away', async (t) => {
  const elsewhere: Fault = (_, response) => {
    response.writeHead(206, {
      'Content-Length': 10,
      'Content-Range': `bytes 5-14/${file.length}`,
    })
    response.end(file.subarray(5, 15))
  }
  const { asked } = await fetched(t, [cut(100_000), elsewhere])
  t.is(asked.length, 3)
  t.is(asked[2], undefined)
})

test('what another process left is gone on with, where the hash can prove it', async (t) => {
  const { url, asked } = await faultyServer(t, file)
  const path = join(newFolder(), 'file.bin')
  writeFileSync(`${path}.partial`, file.subarray(0, 123_456))
  await download(url, path, { ...quick, sha256 })
  t.deepEqual(asked, ['bytes=123456-'])
  t.deepEqual(readFileSync(path), file)

  writeFileSync(`${path}.partial`, file.subarray(0, 123_456))
  await download(url, path, quick)
  t.is(asked[1], undefined)

  // The leftover of another version: the hash is wrong at first, right from the start.
  writeFileSync(`${path}.partial`, randomBytes(1000))
  await download(url, path, { ...quick, sha256 })
  t.deepEqual(asked.slice(2), ['bytes=1000-', undefined])
  t.deepEqual(readFileSync(path), file)

  // Longer than the file: 416.
  writeFileSync(`${path}.partial`, randomBytes(file.length + 5))
  await download(url, path, { ...quick, sha256 })
  t.deepEqual(asked.slice(4), [`bytes=${file.length + 5}-`, undefined])

  // Whole already: nobody is asked.
  writeFileSync(`${path}.partial`, file)
  await download(url, path, { ...quick, sha256, expectedBytes: file.length })
  t.is(asked.length, 6)
})

test('wrong bytes leave nothing behind', async (t) => {
  const wrong: Fault = (_, response) => response.end(randomBytes(file.length))
  const { error, left, url } = await refused(t, [wrong])
  t.is((error as { code?: string }).code, 'ERR_NETWORK')
  t.true(error!.message.startsWith(`${url} cannot be downloaded: its sha256 is `))
  t.true(error!.message.includes(`expected ${sha256}`))
  t.is(left, null)
})

test('the git hash of a file counts as well', async (t) => {
  const gitSha1 = createHash('sha1').update(`blob ${file.length}\0`).update(file).digest('hex')
  const { url } = await faultyServer(t, file, [cut(1000)])
  const path = join(newFolder(), 'file.bin')
  await download(url, path, { ...quick, gitSha1, expectedBytes: file.length })
  t.deepEqual(readFileSync(path), file)
  await t.throwsAsync(
    download(url, path, { ...quick, gitSha1: '0'.repeat(40), expectedBytes: file.length }),
    {
      message: /its git hash is/,
    },
  )
})

test('a wrong length is an error at once, more or fewer bytes than announced too', async (t) => {
  const { error, asked } = await refused(t, [], { expectedBytes: file.length + 1 })
  t.regex(error!.message, /it has 300000 bytes, expected 300001/)
  t.is(asked.length, 1)
  const endless: Fault = (_, response) => {
    response.write(file)
    response.end(file)
  }
  const more = await refused(t, [endless], { expectedBytes: file.length })
  t.regex(more.error!.message, /more than the expected 300000 bytes/)
  // Without Content-Length nothing but the expected size tells that bytes are missing.
  const short: Fault = (_, response) => {
    response.write(file.subarray(0, 1000))
    response.end()
  }
  const fewer = await refused(t, Array(3).fill(short), { expectedBytes: file.length, retries: 2 })
  t.regex(fewer.error!.message, /it ended after 1000 of 300000 bytes/)
  t.deepEqual(fewer.left, file.subarray(0, 1000))
})

test('attempts are bounded and what came stays', async (t) => {
  const { error, asked, left } = await refused(t, [cut(5000), cut(5000), cut(5000), cut(5000)], {
    retries: 3,
  })
  t.is((error as { code?: string }).code, 'ERR_NETWORK')
  t.is(asked.length, 4)
  t.deepEqual(left, file.subarray(0, left!.length))
  t.true(left!.length > 0)
})

test('404 is not asked again', async (t) => {
  const gone: Fault = (_, response) => response.writeHead(404).end()
  const { error, asked } = await refused(t, [gone])
  t.regex(error!.message, /file\.bin cannot be downloaded: the server answered 404/)
  t.is(asked.length, 1)
})

test('an abort ends it and leaves what came', async (t) => {
  const abort = new AbortController()
  const { error, left } = await refused(t, [stall(100_000)], {
    signal: abort.signal,
    onProgress: () => abort.abort('enough'),
  })
  t.true(error instanceof AbortError)
  t.is((error as AbortError).cause, 'enough')
  t.true(left!.length > 0)
})

test('what a callback throws comes out as it is', async (t) => {
  const mine = new Error('mine')
  const { error, asked } = await refused(t, [], {
    onProgress: () => {
      throw mine
    },
  })
  t.is(error, mine)
  t.is(asked.length, 1)
})

test('a redirect to another host does not get the credentials', async (t) => {
  const seen: (string | undefined)[] = []
  const cdn = await serve(t, (request, response) => {
    seen.push(request.headers.authorization, request.headers.range)
    if (seen.length === 2) cut(1000)(request, response, file)
    else sendFile(request, response, file)
  })
  let asked = 0
  const origin = await serve(t, (request, response) => {
    asked++
    t.is(request.headers.authorization, 'Bearer secret')
    if (request.url === '/here') response.writeHead(302, { Location: '/there' }).end()
    else response.writeHead(302, { Location: `${cdn}/blob?signature=private` }).end()
  })
  const path = join(newFolder(), 'file.bin')
  await download(`${origin}/here`, path, { ...quick, sha256, headers: { Authorization: 'Bearer secret' } })
  t.is(asked, 4)
  t.deepEqual([seen[0], seen[1], seen[2]], [undefined, undefined, undefined])
  t.regex(seen[3]!, /^bytes=[1-9]/)
})

test.serial('proxies of the environment are asked, NO_PROXY is not', async (t) => {
  const { url } = await faultyServer(t, file)
  const seen: string[] = []
  const proxy = await serve(t, (request, response) => {
    seen.push(`${request.url} ${request.headers['proxy-authorization']} ${request.headers.host}`)
    sendFile(request, response, file)
  })
  const restore = keepEnvironment()
  t.teardown(restore)
  process.env.HTTP_PROXY = proxy.replace('//', '//me:pass%20word@')
  const path = join(newFolder(), 'file.bin')
  await download(url, path, { ...quick, sha256 })
  const { host } = new URL(url)
  t.deepEqual(seen, [`${url} Basic ${Buffer.from('me:pass word').toString('base64')} ${host}`])
  process.env.NO_PROXY = 'example.org, 127.0.0.1'
  await download(url, path, { ...quick, sha256 })
  t.is(seen.length, 1)
})

test.serial('https goes through a tunnel of the proxy', async (t) => {
  // Made by: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost
  const [key, cert] = ['key', 'cert'].map((name) => readFileSync(`test/fixtures/tls/${name}.pem`)) as [
    Buffer,
    Buffer,
  ]
  const { createServer } = await import('node:https')
  const origin = createServer({ key, cert }, (request, response) => sendFile(request, response, file))
  await new Promise<void>((resolve) => origin.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    origin.closeAllConnections()
    origin.close()
  })
  const { createServer: createProxy } = await import('node:http')
  const tunnels: string[] = []
  const proxy = createProxy()
  proxy.on('connect', (request, client) => {
    tunnels.push(request.url!)
    const [host, port] = request.url!.split(':')
    if (host === 'forbidden.example') return void client.end('HTTP/1.1 403 Forbidden\r\n\r\n')
    const upstream = connect(Number(port), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.pipe(client).pipe(upstream)
    })
    upstream.on('error', () => client.destroy())
    client.on('error', () => upstream.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => proxy.close())
  const port = (address: unknown) => (address as { port: number }).port
  const restore = keepEnvironment()
  t.teardown(restore)
  process.env.https_proxy = `127.0.0.1:${port(proxy.address())}`
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  const path = join(newFolder(), 'file.bin')
  await download(`https://localhost:${port(origin.address())}/file.bin`, path, { ...quick, sha256 })
  t.deepEqual(tunnels, [`localhost:${port(origin.address())}`])
  t.deepEqual(readFileSync(path), file)
  await t.throwsAsync(download('https://forbidden.example/x', path, { ...quick, retries: 0 }), {
    message: /answered CONNECT forbidden\.example:443 with 403/,
  })
  delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
  await t.throwsAsync(
    download(`https://localhost:${port(origin.address())}/x`, path, { ...quick, retries: 0 }),
    {
      message: /self-signed certificate/,
    },
  )
})

test('a proxy that is no http(s) URL is an error without its password', (t) => {
  const url = new URL('https://hub.example')
  for (const https_proxy of ['http://[::', 'http://me:s3cret@bad host:1', 'ftp://me:s3cret@host:1']) {
    const error = t.throws(() => proxyFor(url, { https_proxy }), { code: 'ERR_INVALID_ARGUMENT' })
    t.regex(error!.message, /^the proxy of the environment .* is not an http\(s\) URL$/)
  }
  t.is(proxyFor(url, { HTTPS_PROXY: ' ' }), null)
  t.is(proxyFor(url, { HTTPS_PROXY: ' proxy.example:3128 ' })?.host, 'proxy.example:3128')
})

test('a SOCKS proxy is an error that says what to set, without its password', (t) => {
  const urls = ['https://hub.example', 'http://hub.example'].map((url) => new URL(url))
  for (const proxy of ['socks5://me:s3cret@host:1', 'SOCKS5H://host:1', 'socks4a://host', 'socks://host:1']) {
    for (const name of ['all_proxy', 'ALL_PROXY', 'https_proxy']) {
      const error = t.throws(() => urls.map((url) => proxyFor(url, { [name]: proxy })), {
        code: 'ERR_INVALID_ARGUMENT',
        message: /SOCKS proxy, which is not supported: set HTTPS_PROXY and HTTP_PROXY .*, or NO_PROXY/,
      })
      t.notRegex(error!.message, /s3cret/)
    }
  }
  t.is(proxyFor(urls[0]!, { ALL_PROXY: 'socks5://host:1', NO_PROXY: 'hub.example' }), null)
})
