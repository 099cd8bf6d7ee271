import type { Message } from '../rows/messages.js'
import type { Conversation } from './chat.js'

/** A question, as short conversations with which templates are probed begin. */
export const ASKED: Message[] = [{ role: 'user', content: 'a' }]

/** A turn that calls a tool, with the definition of the tool. */
export const CALLED: Conversation = {
  messages: [
    ...ASKED,
    {
      role: 'assistant',
      content: '',
      tool_calls: [{ id: 'call00001', type: 'function', function: { name: 'f', arguments: { x: 'y' } } }],
    },
  ],
  tools: [
    {
      type: 'function',
      function: {
        name: 'f',
        description: 'g',
        parameters: {
          type: 'object',
          properties: { x: { type: 'string', description: 'h' } },
          required: ['x'],
        },
      },
    },
  ],
}

/** The result of that call. */
export const RESULT: Message = { role: 'tool', name: 'f', tool_call_id: 'call00001', content: 'r' }
