import { PosttrainError } from '../../errors.js'
import { argumentsOf, parsedCall } from '../rows/calls.js'
import type { Message } from '../rows/messages.js'
import type { Rendering } from './jinja/rendering.js'
import { ASKED, CALLED, RESULT } from './probes.js'

/** What a template takes as the content of a message: a text, a list of parts, or either. */
type ContentForm = 'text' | 'parts' | 'both'
/** What a template is given as the arguments of a call: an object, or the JSON text that the row has. */
type ArgumentForm = 'object' | 'text'

/** The forms in which a template takes a turn that calls tools. */
interface CallForms {
  arguments: ArgumentForm
  /** The content of a turn without one. */
  content: '' | null
}

/** Renders messages with the tools of `CALLED`, or without any; null where the template refuses them. */
type Probe = (messages: readonly object[], tools: boolean) => Rendering | null

const ANSWER = { role: 'assistant', content: 'b' }
const JSON_TEXT = '{"x": "y"}'
/** The same arguments in Python's spelling, which no template writes on purpose. */
const SPELLED = "{'x': 'y'}"

/**
 * The forms in which a template takes what rows have in several: content as text or parts, arguments of calls as
 * objects or as JSON text, no content as null or as an empty text. Each is found once by rendering short conversations,
 * so that training and generation agree.
 */
export class Forms {
  readonly #probe: Probe
  #content: ContentForm | undefined
  readonly #calls = new Map<string, CallForms>()

  constructor(probe: Probe) {
    this.#probe = probe
  }

  /** A message as the template sees it. */
  given(message: Message): Message {
    const { train: _, contentParts, noContent, ...rest } = message
    const calls = callsOf(message)
    const called = calls === null ? rest : this.#withCalls(rest as Message, calls, noContent === true)
    const form = this.#contentForm()
    const parts =
      form === 'text' ? null : (contentParts ?? (form === 'parts' ? inParts(called.content) : null))
    return (parts === null ? called : { ...called, content: parts }) as Message
  }

  /** What to write instead, where a template refuses or leaves out the calls of a message in the form that they have. */
  advice(message: Message): string | null {
    const calls = callsOf(message)
    if (calls === null) return null
    const content = contentKind(message)
    const form: ArgumentForm = calls.some((call) => typeof argumentsOf(call) === 'object') ? 'object' : 'text'
    if (this.#renders(content, form)) return null
    if (form === 'object' && this.#renders(content, 'text'))
      return 'it joins the arguments of calls as text, so give function.arguments as JSON text, not as an object'
    if (content === '' && (this.#renders(null, form) || this.#renders(null, 'text')))
      return `it renders calls only where content is null, so write null for an empty content${
        this.#renders(null, form) ? '' : ', and function.arguments as JSON text'
      }`
    return null
  }

  #withCalls(message: Message, calls: readonly unknown[], noContent: boolean): Message {
    const content = noContent ? null : contentKind(message)
    const isText = calls.some((call) => typeof argumentsOf(call) === 'string')
    const forms = this.#callForms(content, isText)
    return {
      ...message,
      ...(content === null && { content: forms.content }),
      tool_calls: forms.arguments === 'text' ? calls : calls.map(parsedCall),
    } as Message
  }

  /** Whether a template renders calls in a form beside a content. */
  #renders(content: string | null, form: ArgumentForm): boolean {
    return this.#score(content, form) > 0
  }

  /** The forms of a turn whose content is null, empty or `b`, and whose arguments the row has as text or as objects. */
  #callForms(content: string | null, isText: boolean): CallForms {
    const key = JSON.stringify([content, isText])
    const known = this.#calls.get(key)
    if (known !== undefined) return known
    const contents = content === null ? [null, ''] : [content]
    const candidates = (['object', 'text'] as const)
      .filter((form) => isText || form === 'object')
      .flatMap((form) => contents.map((content) => ({ form, content, score: this.#score(content, form) })))
    const most = Math.max(...candidates.map(({ score }) => score))
    const best = candidates.find(({ score }) => score === most)!
    const forms: CallForms =
      most === 0
        ? { arguments: 'object', content: '' }
        : { arguments: best.form, content: best.content === null ? null : '' }
    this.#calls.set(key, forms)
    return forms
  }

  /** Counts the conversations of a probe in which the template renders a call as it is meant. */
  #score(content: string | null, form: ArgumentForm): number {
    const turn = (content: string | null) => {
      const [call] = CALLED.messages[1]!.tool_calls as [{ function: object }]
      const args = form === 'text' ? JSON_TEXT : { x: 'y' }
      const given = this.#contentForm() === 'parts' && content !== null ? inParts(content) : content
      const calls = [{ ...call, function: { ...call.function, arguments: args } }]
      return { role: 'assistant', content: given, tool_calls: calls }
    }
    const whole = (content: string | null, rest: readonly object[]) =>
      this.#probe([...ASKED, turn(content), ...rest], true)
    return [[], [RESULT, ANSWER]].filter((rest) => {
      const rendering = whole(content, rest)
      if (rendering === null || !(form === 'text' ? isJoined(rendering) : isRead(rendering))) return false
      // Python writes a null that is printed as None.
      if (content !== null || !rendering.text.includes('None')) return true
      return whole('', rest)?.text.includes('None') === true
    }).length
  }

  #contentForm(): ContentForm {
    if (this.#content !== undefined) return this.#content
    const renders = (content: unknown) => {
      const rendering = this.#probe([{ role: 'user', content }], false)
      const own = rendering?.runs.filter(
        ({ origin }) => origin?.path[0] === 'messages' && origin.path[2] === 'content',
      )
      return own !== undefined && own.length > 0 && own.every(({ origin }) => origin!.part === 'value')
    }
    const parts = renders([{ type: 'text', text: 'a' }])
    this.#content = !parts ? 'text' : renders('a') ? 'both' : 'parts'
    return this.#content
  }
}

const inParts = (content: unknown) => (typeof content === 'string' ? [{ type: 'text', text: content }] : null)

/** The content of a turn that calls tools by its kind: null or absent, empty, or any text. */
function contentKind({ content, noContent }: { content?: unknown; noContent?: unknown }): '' | 'b' | null {
  if (content == null || (noContent === true && content === '')) return null
  return content === '' ? '' : 'b'
}

function callsOf({ tool_calls: calls }: Message): readonly unknown[] | null {
  return Array.isArray(calls) && calls.length > 0 ? calls : null
}

/** Runs of the arguments of the call in a rendered probe. */
const argumentRuns = ({ runs, text }: Rendering) =>
  runs.flatMap(({ from, to, origin }) => {
    const [root, , field, , , name, key] = origin?.path ?? []
    if (root !== 'messages' || field !== 'tool_calls' || name !== 'arguments') return []
    return [{ text: text.slice(from, to), part: origin!.part, key }]
  })

/** Whether the template joined the arguments as the text that they are. */
function isJoined(rendering: Rendering): boolean {
  const runs = argumentRuns(rendering)
  return runs.map(({ text }) => text).join('') === JSON_TEXT && runs.every(({ part }) => part === 'value')
}

/** Whether the template read the arguments as an object. */
const isRead = (rendering: Rendering) =>
  !rendering.text.includes(SPELLED) &&
  argumentRuns(rendering).some(({ text, part, key }) => key === 'x' && part === 'value' && text === 'y')

/** Renders a probe; null where the template refuses it. */
export function attempted(render: () => Rendering): Rendering | null {
  try {
    return render()
  } catch (error) {
    if (error instanceof PosttrainError) return null
    throw error
  }
}
