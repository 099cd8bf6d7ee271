import test from 'ava'
import { asked, call, JSON_TEXT, messagesOf, result, system, text, town } from '../helpers/agent-rows.js'
import { assistant } from '../helpers/response-rows.js'

const looking = {
  role: 'assistant',
  content: 'I look.',
  reasoning_content: 'Hm.',
  tool_calls: [call('c1'), call('c2', '{"town":"Bonn"}')],
}
/** A conversation with two calls at once; each shape below says the same. */
const whole = [system, asked, looking, result('{"mm":3}'), result('none', 'c2'), assistant('3 mm.')]

const shapes: Record<string, { row: object; differs?: Record<number, object> }> = {
  'OpenAI, chat completions': {
    row: {
      messages: [
        { role: 'system', content: 'S' },
        { role: 'user', content: [text('Rain?')] },
        { ...looking, refusal: null, annotations: [] },
        result('{"mm":3}'),
        { role: 'tool', tool_call_id: 'c2', name: 'rain', content: 'none' },
        { role: 'assistant', content: '3 mm.', refusal: null },
      ],
    },
    differs: { 2: { ...looking, annotations: [] } },
  },
  'OpenAI, items of the Responses API': {
    row: {
      instructions: 'S',
      input: [
        { role: 'user', content: [text('Rain?', 'input_text')] },
        { type: 'reasoning', id: 'r1', summary: [text('Hm.', 'summary_text')], encrypted_content: 'gAAA' },
        {
          type: 'message',
          id: 'm1',
          role: 'assistant',
          status: 'completed',
          content: [{ ...text('I look.', 'output_text'), annotations: [] }],
        },
        {
          type: 'function_call',
          id: 'f1',
          call_id: 'c1',
          name: 'rain',
          arguments: JSON_TEXT,
          status: 'completed',
        },
        { type: 'function_call', id: 'f2', call_id: 'c2', name: 'rain', arguments: '{"town":"Bonn"}' },
        { type: 'function_call_output', call_id: 'c1', output: '{"mm":3}' },
        { type: 'function_call_output', call_id: 'c2', output: [text('none', 'input_text')] },
      ],
      output: [
        { type: 'reasoning', id: 'r2', summary: [], encrypted_content: 'gAAA' },
        { type: 'message', id: 'm2', role: 'assistant', content: [text('3 mm.', 'output_text')] },
      ],
    },
    // What stands in `input` is context, as in every prompt.
    differs: Object.fromEntries(whole.slice(0, -1).map((message, i) => [i, { ...message, train: false }])),
  },
  Anthropic: {
    row: {
      system: [{ ...text('S'), cache_control: { type: 'ephemeral' } }],
      messages: [
        { role: 'user', content: 'Rain?' },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'Hm.', signature: 'sig' },
            { type: 'redacted_thinking', data: 'gAAA' },
            text('I look.'),
            { type: 'tool_use', id: 'c1', name: 'rain', input: town },
            { type: 'tool_use', id: 'c2', name: 'rain', input: { town: 'Bonn' } },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'tool_result', tool_use_id: 'c1', content: [text('{"mm":3}')] },
            { type: 'tool_result', tool_use_id: 'c2', content: 'none', is_error: true },
          ],
        },
        { role: 'assistant', content: [text('3 mm.')] },
      ],
    },
  },
  'AI SDK, messages of models': {
    row: {
      messages: [
        { role: 'system', content: 'S' },
        { role: 'user', content: [text('Rain?')] },
        {
          role: 'assistant',
          content: [
            { type: 'reasoning', text: 'Hm.', providerOptions: { anthropic: { signature: 'sig' } } },
            text('I look.'),
            { type: 'tool-call', toolCallId: 'c1', toolName: 'rain', input: town },
            { type: 'tool-call', toolCallId: 'c2', toolName: 'rain', input: { town: 'Bonn' } },
          ],
        },
        {
          role: 'tool',
          content: [
            {
              type: 'tool-result',
              toolCallId: 'c1',
              toolName: 'rain',
              output: { type: 'json', value: { mm: 3 } },
            },
            {
              type: 'tool-result',
              toolCallId: 'c2',
              toolName: 'rain',
              output: { type: 'error-text', value: 'none' },
            },
          ],
        },
        { role: 'assistant', content: [text('3 mm.')] },
      ],
    },
  },
  'AI SDK 4, messages of models': {
    row: {
      messages: [
        { role: 'system', content: 'S' },
        { role: 'user', content: 'Rain?' },
        {
          role: 'assistant',
          content: [
            { type: 'reasoning', text: 'Hm.', signature: 'sig' },
            { type: 'redacted-reasoning', data: 'gAAA' },
            text('I look.'),
            { type: 'tool-call', toolCallId: 'c1', toolName: 'rain', args: town },
            { type: 'tool-call', toolCallId: 'c2', toolName: 'rain', args: { town: 'Bonn' } },
          ],
        },
        {
          role: 'tool',
          content: [
            { type: 'tool-result', toolCallId: 'c1', toolName: 'rain', result: { mm: 3 } },
            { type: 'tool-result', toolCallId: 'c2', toolName: 'rain', result: 'none' },
          ],
        },
        { role: 'assistant', content: '3 mm.' },
      ],
    },
  },
  'AI SDK, messages of user interfaces': {
    row: {
      messages: [
        { id: '1', role: 'system', parts: [text('S')] },
        { id: '2', role: 'user', parts: [text('Rain?')], metadata: { at: 3 } },
        {
          id: '3',
          role: 'assistant',
          parts: [
            { type: 'step-start' },
            { type: 'reasoning', text: 'Hm.', state: 'done' },
            { ...text('I look.'), state: 'done' },
            {
              type: 'tool-rain',
              toolCallId: 'c1',
              state: 'output-available',
              input: town,
              output: { mm: 3 },
            },
            {
              type: 'dynamic-tool',
              toolName: 'rain',
              toolCallId: 'c2',
              state: 'output-error',
              input: { town: 'Bonn' },
              errorText: 'none',
            },
            { type: 'step-start' },
            { type: 'source-url', sourceId: 's', url: 'https://x.example' },
            { type: 'data-chart', data: { mm: 3 } },
            { ...text('3 mm.'), state: 'done' },
          ],
        },
      ],
    },
  },
  'AI SDK 4, messages of user interfaces': {
    row: {
      messages: [
        { id: '1', role: 'system', content: 'S', parts: [text('S')] },
        { id: '2', role: 'user', content: 'Rain?', createdAt: new Date(), parts: [text('Rain?')] },
        {
          id: '3',
          role: 'assistant',
          content: 'I look.3 mm.',
          reasoning: 'Hm.',
          toolInvocations: [{}, {}],
          parts: [
            { type: 'step-start' },
            { type: 'reasoning', reasoning: 'Hm.', details: [{ type: 'text', text: 'Hm.' }] },
            text('I look.'),
            {
              type: 'tool-invocation',
              toolInvocation: {
                state: 'result',
                step: 0,
                toolCallId: 'c1',
                toolName: 'rain',
                args: town,
                result: { mm: 3 },
              },
            },
            {
              type: 'tool-invocation',
              toolInvocation: {
                state: 'result',
                step: 0,
                toolCallId: 'c2',
                toolName: 'rain',
                args: { town: 'Bonn' },
                result: 'none',
              },
            },
            { type: 'step-start' },
            text('3 mm.'),
          ],
        },
      ],
    },
  },
  Gemini: {
    row: {
      system: 'S',
      messages: [
        { role: 'user', parts: [{ text: 'Rain?' }] },
        {
          role: 'model',
          parts: [
            { text: 'Hm.', thought: true },
            { text: 'I look.' },
            { functionCall: { id: 'c1', name: 'rain', args: town } },
            { functionCall: { id: 'c2', name: 'rain', args: { town: 'Bonn' } } },
          ],
        },
        {
          role: 'user',
          parts: [
            { functionResponse: { id: 'c1', name: 'rain', response: { mm: 3 } } },
            { functionResponse: { id: 'c2', name: 'rain', response: 'none' } },
          ],
        },
        { role: 'model', parts: [{ text: '3 mm.' }] },
      ],
    },
  },
}

const langChain = [
  { type: 'system', content: 'S' },
  { type: 'human', content: 'Rain?', name: null },
  {
    type: 'ai',
    content: 'I look.',
    tool_calls: [
      { name: 'rain', args: town, id: 'c1', type: 'tool_call' },
      { name: 'rain', args: { town: 'Bonn' }, id: 'c2', type: 'tool_call' },
    ],
    invalid_tool_calls: [],
    additional_kwargs: { reasoning_content: 'Hm.', tool_calls: [call('c1')] },
    response_metadata: { model: 'x' },
    usage_metadata: null,
  },
  { type: 'tool', content: '{"mm":3}', tool_call_id: 'c1', name: 'rain', status: 'success', artifact: null },
  { type: 'tool', content: 'none', tool_call_id: 'c2', name: 'rain', additional_kwargs: {} },
  { type: 'ai', content: '3 mm.', tool_calls: [], invalid_tool_calls: [], additional_kwargs: {} },
]
const CLASSES: Record<string, string> = { system: 'System', human: 'Human', ai: 'AI', tool: 'Tool' }
shapes['LangChain, fields of messages'] = { row: { messages: langChain } }
shapes['LangChain, stored messages'] = {
  row: { messages: langChain.map(({ type, ...data }) => ({ type, data })) },
}
shapes['LangChain, JSON of messages'] = {
  row: {
    messages: langChain.map(({ type, ...kwargs }) => ({
      lc: 1,
      type: 'constructor',
      id: ['langchain_core', 'messages', `${CLASSES[type]}Message${type === 'ai' ? 'Chunk' : ''}`],
      kwargs,
    })),
  },
}
shapes["LangChain, with Anthropic's blocks repeated in tool_calls"] = {
  row: {
    messages: langChain.map((message) =>
      message.content !== 'I look.'
        ? message
        : {
            ...message,
            content: [
              { type: 'thinking', thinking: 'Hm.', signature: 'sig' },
              text('I look.'),
              { type: 'tool_use', id: 'c1', name: 'rain', input: town },
              { type: 'tool_use', id: 'c2', name: 'rain', input: { town: 'Bonn' } },
            ],
            additional_kwargs: {},
          },
    ),
  },
}

for (const [name, { row, differs = {} }] of Object.entries(shapes)) {
  test(`a conversation of an agent is read in the form of templates: ${name}`, (t) => {
    t.deepEqual(
      messagesOf(row),
      whole.map((message, i) => differs[i] ?? message),
    )
  })
}
