import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { pipeline, type Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError, PosttrainError } from '../errors.js'
import { proxyFor, proxyHeaders, tunnel } from './proxy.js'

/** A response whose body is yet to be read or destroyed. */
export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  /** Final URL, after redirects. */
  url: URL
  body: IncomingMessage
}

export interface RequestOptions {
  method?: 'GET' | 'HEAD' | 'POST' | 'PUT'
  headers?: Record<string, string>
  /** A function opens a new stream for each attempt. */
  body?: string | Uint8Array | (() => Readable)
  signal?: AbortSignal | undefined
  /** Maximum time without data, connecting included; all headers of a response may take twice as long. Default 30 seconds. */
  stallTimeoutMs?: number
  /** True if a redirect may be followed; by default all are. */
  follow?: (answer: Answer, to: URL) => boolean
}

const MAX_REDIRECTS = 10
export const STALL_TIMEOUT_MS = 30_000
/** Maximum time for the whole body of a text. */
const TEXT_TIMEOUT_MS = 120_000
/** Bytes and time that the rest of a body is given, for its connection to be used again. */
const DISCARDED = { bytes: 2 ** 16, ms: 5_000 } as const

/** A URL for messages: without user and query, which may contain signatures and tokens. */
export function shown(url: URL | string): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}

/**
 * Sends a request, through the proxy of the environment if set, and follows redirects; resolves for any status.
 * Credentials are never sent to another origin, nor is a body.
 *
 * @throws PosttrainError ERR_NETWORK if there is no response, AbortError.
 */
export async function request(url: string | URL, options: RequestOptions = {}): Promise<Answer> {
  let at = new URL(url)
  let headers = { 'User-Agent': 'posttrain', 'Accept-Encoding': 'identity', ...options.headers }
  for (let redirects = 0; ; redirects++) {
    const answer = await ask(at, headers, options)
    const { location } = answer.headers
    if (![301, 302, 303, 307, 308].includes(answer.status) || location === undefined) return answer
    if (!URL.canParse(location, at.href)) throw failure(at, 'it redirects to an invalid address')
    const to = new URL(location, at)
    if (options.follow?.(answer, to) === false) return answer
    answer.body.destroy()
    if (redirects === MAX_REDIRECTS) throw failure(at, `it redirects more than ${MAX_REDIRECTS} times`)
    if (!/^https?:$/.test(to.protocol) || (at.protocol === 'https:' && to.protocol === 'http:'))
      throw failure(at, `it redirects to ${shown(to)}, which is not https`)
    if (to.origin !== at.origin && options.body !== undefined)
      throw failure(at, `it redirects what is sent to another server, ${to.origin}, which was refused`)
    if (to.origin !== at.origin) headers = withoutCredentials(headers)
    at = to
  }
}

/** `request` with retries after network errors and temporary statuses. */
export async function requestAgain(
  url: string | URL,
  options: RequestOptions & { retries?: number; retryDelayMs?: number } = {},
): Promise<Answer> {
  const { retries = 2, retryDelayMs = 500, ...given } = options
  for (let attempt = 0; ; attempt++) {
    let retryAfter: number | null = null
    try {
      const answer = await request(url, given)
      if (attempt >= retries || !isTemporary(answer.status)) return answer
      retryAfter = retryAfterMs(answer)
      answer.body.destroy()
    } catch (error) {
      if (attempt >= retries || (error as PosttrainError).code !== 'ERR_NETWORK') throw error
    }
    await pause(retryAfter ?? retryDelayMs * 2 ** attempt, options.signal)
  }
}

/** Whether the same request may succeed later. */
export function isTemporary(status: number): boolean {
  return [408, 425, 429, 500, 502, 503, 504].includes(status)
}

/** Delay of Retry-After, at most a minute; null if absent. */
export function retryAfterMs({ headers }: Answer): number | null {
  const given = headers['retry-after']
  if (given === undefined) return null
  const ms = /^\d+$/.test(given) ? Number(given) * 1000 : Date.parse(given) - Date.now()
  return Number.isNaN(ms) ? null : Math.min(60_000, Math.max(0, ms))
}

export async function pause(ms: number, signal?: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal ? { signal } : {}).catch(() => {
    throw new AbortError(signal?.reason)
  })
}

/** Lets go of a body that is not needed, however long it is. */
export function discard({ body }: Answer): void {
  let size = 0
  const timer = setTimeout(() => body.destroy(), DISCARDED.ms)
  body.on('close', () => clearTimeout(timer))
  body.on('data', (piece: Buffer) => {
    size += piece.length
    if (size > DISCARDED.bytes) body.destroy()
  })
}

/** Reads the whole body as text; throws if it is longer than `limit` bytes or takes longer than `timeoutMs`. */
export async function textOf(
  { body, url }: Answer,
  { limit = 64 * 2 ** 20, timeoutMs = TEXT_TIMEOUT_MS } = {},
): Promise<string> {
  const pieces: Buffer[] = []
  let size = 0
  const late = () => body.destroy(new Error(`the response took longer than ${timeoutMs / 1000} seconds`))
  const timer = setTimeout(late, timeoutMs)
  try {
    for await (const piece of body as AsyncIterable<Buffer>) {
      size += piece.length
      if (size > limit) throw new Error(`the response is longer than ${limit} bytes`)
      pieces.push(piece)
    }
  } catch (cause) {
    throw failure(url, (cause as Error).message, cause)
  } finally {
    clearTimeout(timer)
  }
  return Buffer.concat(pieces).toString('utf8')
}

function failure(url: URL, why: string, cause?: unknown): PosttrainError {
  return new PosttrainError(
    'ERR_NETWORK',
    `${shown(url)} cannot be fetched: ${why}; check the connection, and HTTPS_PROXY where a proxy is needed`,
    { cause },
  )
}

function withoutCredentials<T extends Record<string, string>>(headers: T): T {
  const kept = Object.entries(headers).filter(([name]) => !/^(authorization|cookie)$/i.test(name))
  return Object.fromEntries(kept) as T
}

async function ask(url: URL, headers: Record<string, string>, options: RequestOptions): Promise<Answer> {
  const { method = 'GET', body, signal, stallTimeoutMs = STALL_TIMEOUT_MS } = options
  if (signal?.aborted) throw new AbortError(signal.reason)
  const secure = url.protocol === 'https:'
  const proxy = proxyFor(url)
  try {
    const socket =
      secure && proxy !== null ? await tunnel(proxy, url, { signal, timeoutMs: stallTimeoutMs }) : null
    return await new Promise((resolve, reject) => {
      const common = { method, headers: { ...headers }, ...(signal && { signal }) }
      const message =
        proxy !== null && !secure
          ? httpRequest(proxy, {
              ...common,
              path: url.href,
              headers: { Host: url.host, ...proxyHeaders(proxy), ...headers },
            })
          : secure
            ? httpsRequest(url, { ...common, ...(socket && { createConnection: () => socket }) })
            : httpRequest(url, common)
      let response: IncomingMessage | undefined
      let headersDue: NodeJS.Timeout | undefined
      message.setTimeout(stallTimeoutMs, () => {
        const silent = new Error(`no data for ${stallTimeoutMs / 1000} seconds`)
        if (response) response.destroy(silent)
        else message.destroy(silent)
      })
      // Headers that come byte by byte are never silent.
      message.on('finish', () => {
        const due = 2 * stallTimeoutMs
        const late = () => message.destroy(new Error(`no response within ${due / 1000} seconds`))
        if (response === undefined) headersDue = setTimeout(late, due)
      })
      message.on('close', () => clearTimeout(headersDue))
      message.on('response', (came) => {
        clearTimeout(headersDue)
        response = came
        // A reader of the body gets the error itself; without a reader it must not be uncaught.
        came.on('error', () => undefined)
        resolve({ status: came.statusCode!, headers: came.headers, url, body: came })
      })
      message.on('error', reject)
      if (typeof body === 'function') {
        pipeline(body(), message, (error) => error && reject(error))
      } else {
        message.end(body)
      }
    })
  } catch (cause) {
    if (signal?.aborted) throw new AbortError(signal.reason)
    const { code, message } = cause as NodeJS.ErrnoException
    throw failure(url, message || code || 'the connection failed', cause)
  }
}
