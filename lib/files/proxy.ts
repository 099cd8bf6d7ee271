import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { PosttrainError } from '../errors.js'

type Env = Record<string, string | undefined>

const portOf = (url: URL) => url.port || (url.protocol === 'https:' ? '443' : '80')

/**
 * The proxy for a URL by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in lower or upper case; null for a direct
 * connection. (Node 20 does not read these variables itself.)
 */
export function proxyFor(url: URL, env: Env = process.env): URL | null {
  const variable = (name: string) => (env[name] || env[name.toUpperCase()] || '').trim()
  const host = url.hostname.toLowerCase()
  for (const entry of variable('no_proxy')
    .toLowerCase()
    .split(/[\s,]+/)) {
    if (entry === '*') return null
    const [, name, port] = /^\*?\.?(.*?)(?::(\d+))?$/.exec(entry)!
    if (name === '' || (port !== undefined && port !== portOf(url))) continue
    if (host === name || host.endsWith(`.${name}`)) return null
  }
  const proxy = variable(url.protocol === 'https:' ? 'https_proxy' : 'http_proxy') || variable('all_proxy')
  if (proxy === '') return null
  const address = /^[a-z][a-z\d+.-]*:\/\//i.test(proxy) ? proxy : `http://${proxy}`
  if (URL.canParse(address) && /^https?:/i.test(address)) return new URL(address)
  // Neither error has the value, which may hold a password.
  if (/^socks/i.test(address))
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'the proxy of the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) is a SOCKS proxy, which is not supported: set HTTPS_PROXY and HTTP_PROXY to an http(s) proxy, or NO_PROXY to the hosts that are reached without one',
    )
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'the proxy of the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) is not an http(s) URL',
  )
}

/** Credentials for the proxy. */
export function proxyHeaders(proxy: URL): Record<string, string> {
  if (proxy.username === '') return {}
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`
  return { 'Proxy-Authorization': `Basic ${Buffer.from(user).toString('base64')}` }
}

/** Opens a TLS connection to the host of an https URL through the proxy's CONNECT tunnel. */
export async function tunnel(
  proxy: URL,
  to: URL,
  options: { signal?: AbortSignal | undefined; timeoutMs: number },
): Promise<Socket> {
  const authority = `${to.hostname}:${portOf(to)}`
  const socket = await new Promise<Socket>((resolve, reject) => {
    const ask = (proxy.protocol === 'https:' ? httpsRequest : httpRequest)({
      host: proxy.hostname,
      port: portOf(proxy),
      method: 'CONNECT',
      path: authority,
      headers: { Host: authority, ...proxyHeaders(proxy) },
      timeout: options.timeoutMs,
      ...(options.signal && { signal: options.signal }),
    })
    const refused = (status: number | undefined) =>
      new Error(`the proxy ${proxy.host} answered CONNECT ${authority} with ${status}`)
    ask.on('connect', ({ statusCode }, connected) => {
      if (statusCode === 200) return resolve(connected as Socket)
      connected.destroy()
      reject(refused(statusCode))
    })
    ask.on('response', ({ statusCode }) => {
      ask.destroy()
      reject(refused(statusCode))
    })
    ask.on('timeout', () => ask.destroy(new Error(`the proxy ${proxy.host} does not answer`)))
    ask.on('error', reject)
    ask.end()
  })
  // The timeout was for the tunnel; requests through it set their own.
  socket.setTimeout(0)
  return connectTls({ socket, ...(isIP(to.hostname) === 0 && { servername: to.hostname }) })
}
