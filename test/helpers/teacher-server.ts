import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ExecutionContext } from 'ava'

/** A request for a chat completion, as it came. */
export interface Asked {
  body: {
    model: string
    messages: { role: string; content: string }[]
    [field: string]: unknown
  }
  /** What was said last. */
  question: string
  authorization: string | undefined
  /** How many requests with this question there were before. */
  before: number
}

/** What comes back: a text, or whatever is written into the response. */
export type Reaction = string | ((response: ServerResponse) => void)

export interface TeacherServer {
  baseUrl: string
  asked: Asked[]
  /** Peak number of open requests. */
  atOnce: number
}

/** An OpenAI-compatible server of this process, closed after the test. */
export async function teacherServer(
  t: Pick<ExecutionContext, 'teardown'>,
  react: (asked: Asked) => Reaction | Promise<Reaction>,
): Promise<TeacherServer> {
  const asked: Asked[] = []
  let open = 0
  const server = createServer(async (request, response) => {
    response.on('close', () => open--)
    known.atOnce = Math.max(known.atOnce, ++open)
    const body = JSON.parse(await textOf(request)) as Asked['body']
    const question = body.messages.at(-1)!.content
    const before = asked.filter((earlier) => earlier.question === question).length
    const { authorization } = request.headers
    const one = { body, question, authorization, before }
    asked.push(one)
    const reaction = await react(one)
    if (typeof reaction === 'string') completion({ content: reaction })(response)
    else reaction(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const known = { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, asked, atOnce: 0 }
  return known
}

export function completion(
  message: { content?: string | null; refusal?: string },
  finish_reason = 'stop',
): (response: ServerResponse) => void {
  const choices = [{ index: 0, message: { role: 'assistant', ...message }, finish_reason }]
  return reply(200, { choices, usage: { prompt_tokens: 10, completion_tokens: 5 } })
}

export function reply(
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): (response: ServerResponse) => void {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
