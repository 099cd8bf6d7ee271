import type { APIError, OpenAI } from 'openai'
import { shorten } from '../arguments.js'
import { AbortError, PosttrainError } from '../errors.js'
import type { ResolvedDistillOptions } from './options.js'
import { type Question, type Reply, type Teacher, TeacherFailure } from './teacher.js'

type Endpoint = NonNullable<ResolvedDistillOptions['endpoint']>

/**
 * Opens a teacher behind the chat completions API of an OpenAI-compatible server. The key is used in requests only and is
 * removed from the server's messages and answers. Nothing is retried here.
 */
export async function openEndpoint(endpoint: Endpoint, timeoutMs: number): Promise<Teacher> {
  const openai = await import('openai')
  const baseUrl = endpoint.baseUrl ?? (process.env.OPENAI_BASE_URL?.trim() || undefined)
  const key = (endpoint.apiKey ?? process.env.OPENAI_API_KEY)?.trim()
  if (!key && baseUrl === undefined) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'distill: no API key: set OPENAI_API_KEY, or use a server that needs none with endpoint.baseUrl',
    )
  }
  const client = new openai.OpenAI({
    // Self-hosted servers mostly need no key, but the client requires one.
    apiKey: key || 'none',
    ...(baseUrl !== undefined && { baseURL: baseUrl }),
    maxRetries: 0,
    // The client's timeout covers the headers only; the timer below covers the whole response.
    timeout: timeoutMs + 60_000,
    logLevel: 'off',
    // A redirect would take the rows to another address.
    fetchOptions: { redirect: 'manual' },
    fetch: async (url, init) => bounded(await fetch(url, init)),
  })
  const address = addressOf(client.baseURL)
  const isSecret = key !== undefined && key.length >= SECRET
  const withoutKey = (text: string) => (isSecret ? text.replaceAll(key, '***') : text)
  const clear = (text: string) => shorten(withoutKey(text), 300)

  const ask = async (question: Question, signal: AbortSignal): Promise<Reply> => {
    const { messages, templateArguments, temperature, seed, maxNewTokens } = question
    const request = new AbortController()
    const abort = () => request.abort()
    signal.addEventListener('abort', abort, { once: true })
    let late = false
    const timer = setTimeout(() => {
      late = true
      abort()
    }, timeoutMs)
    try {
      if (signal.aborted) throw new AbortError(signal.reason)
      const completion = await client.chat.completions.create(
        {
          model: endpoint.model,
          messages: messages.map(({ role, content }) => ({
            role,
            content,
          })) as OpenAI.ChatCompletionMessageParam[],
          seed,
          ...(temperature !== undefined && { temperature }),
          // A field of vLLM and SGLang, which OpenAI refuses.
          ...(Object.keys(templateArguments).length > 0 && { chat_template_kwargs: templateArguments }),
          // OpenAI's newer models refuse the old name, and not all other servers know the new one.
          ...(baseUrl === undefined ? { max_completion_tokens: maxNewTokens } : { max_tokens: maxNewTokens }),
        },
        { signal: request.signal },
      )
      const reply = readCompletion(completion)
      // A server that echoes the key must not get it into the rows.
      return { ...reply, text: withoutKey(reply.text) }
    } catch (error) {
      if (signal.aborted) throw new AbortError(signal.reason)
      if (error instanceof TeacherFailure) throw error
      if (late) throw new TeacherFailure('transport', `no response within ${timeoutMs} ms`)
      if (!(error instanceof openai.APIError) || error.status === undefined) {
        throw new TeacherFailure('transport', clear(`${address} did not respond: ${causes(error)}`))
      }
      throw failureOf(error, clear(error.message), address, endpoint.model)
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    }
  }
  return {
    name: `${endpoint.model} at ${address}`,
    temperature: undefined,
    repeats: false,
    ask,
    close: async () => undefined,
  }
}

/** Shortest key that is looked for in answers: servers that need none are given a word, such as EMPTY. */
const SECRET = 12
/** Most bytes of a response, unpacked: several times the longest answer of a model. */
const MAX_RESPONSE_BYTES = 32 * 2 ** 20

/** A response that fails after as many bytes as no answer has. */
function bounded(response: Response): Response {
  if (response.body === null) return response
  let size = 0
  const counted = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, controller) {
      size += piece.byteLength
      if (size <= MAX_RESPONSE_BYTES) controller.enqueue(piece)
      else controller.error(new Error(`the response is longer than ${MAX_RESPONSE_BYTES / 2 ** 20} MiB`))
    },
  })
  const { status, statusText, headers } = response
  return new Response(response.body.pipeThrough(counted), { status, statusText, headers })
}

/** The address of an endpoint for messages; ERR_INVALID_ARGUMENT for one that fetch does not take. */
function addressOf(baseUrl: string): string {
  const wrong = (why: string) =>
    new PosttrainError('ERR_INVALID_ARGUMENT', `distill: endpoint.baseUrl ${why}`)
  if (!URL.canParse(baseUrl) || !/^https?:/i.test(baseUrl)) throw wrong('is not an http(s) URL')
  const { origin, pathname, username, password } = new URL(baseUrl)
  if (username !== '' || password !== '')
    throw wrong('must not hold a user and password: give endpoint.apiKey')
  return `${origin}${pathname}`
}

/** The response may be anything: that of a nearly compatible server counts as an unusable answer. */
function readCompletion(completion: unknown): Reply {
  const { choices, usage } = (completion ?? {}) as Partial<OpenAI.ChatCompletion>
  const choice = choices?.[0]
  if (choice?.message === undefined || choice.message === null) {
    throw new TeacherFailure('answer', 'the answer has no message')
  }
  const { content, refusal } = choice.message
  const refused = Boolean(refusal) || choice.finish_reason === 'content_filter'
  return {
    text: refused ? (typeof refusal === 'string' ? refusal : '') : typeof content === 'string' ? content : '',
    finish: refused ? 'refused' : choice.finish_reason === 'length' ? 'length' : 'stop',
    promptTokens: Number(usage?.prompt_tokens) || 0,
    completionTokens: Number(usage?.completion_tokens) || 0,
  }
}

function failureOf(error: APIError, message: string, address: string, model: string): Error {
  const { status } = error
  if (status !== undefined && status >= 300 && status < 400) {
    return new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${address} redirects to another address: set endpoint.baseUrl to the final one`,
    )
  }
  if (status === 401) {
    return new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${address} rejects the API key (${message}): set OPENAI_API_KEY`,
    )
  }
  if (status === 404) {
    return new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${address} has no chat completions API or no model ${model} (${message}): check endpoint.baseUrl and endpoint.model`,
    )
  }
  if (error.code === 'insufficient_quota') {
    return new PosttrainError('ERR_IO', `${address} reports that the quota is used up (${message})`)
  }
  if (status === 408 || status === 409 || status === 429 || status! >= 500) {
    return new TeacherFailure('transport', message, retryAfter(error.headers))
  }
  return new TeacherFailure('request', message)
}

/** Delay of `retry-after` (RFC 9110, section 10.2.3: seconds or a date) or OpenAI's `retry-after-ms`. */
export function retryAfter(headers: Headers | undefined, now = Date.now()): number | undefined {
  const milliseconds = headers?.get('retry-after-ms')
  if (milliseconds && Number.isFinite(Number(milliseconds))) return Math.max(0, Number(milliseconds))
  const delay = headers?.get('retry-after')
  if (!delay) return undefined
  const wait = Number.isFinite(Number(delay)) ? Number(delay) * 1000 : Date.parse(delay) - now
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined
}

/** Message of the innermost cause: the outermost, `fetch failed`, explains nothing. */
function causes(error: unknown): string {
  let inner = error
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause
  if (!(inner instanceof Error)) return String(inner)
  return inner.message || ((inner as NodeJS.ErrnoException).code ?? inner.name)
}
