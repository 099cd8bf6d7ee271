import { Tokenizer } from '../../lib/data/index.js'

/** A small SentencePiece model: BPE over words that begin with U+2581, bytes for what it does not know. */
export function pieceTokenizer(): Tokenizer {
  const pieces = ['<unk>', '<s>', '</s>', '\u2581', 'a', 'b', '\u2581a', 'ab']
  for (let byte = 0; byte < 256; byte++)
    pieces.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  const special = (id: number, content: string) => ({ id, content, special: true })
  return Tokenizer.fromFiles({
    tokenizerJson: JSON.stringify({
      added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '\u2581' },
          { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
        ],
      },
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
        special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        byte_fallback: true,
        unk_token: '<unk>',
        fuse_unk: true,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: ['\u2581 a', 'a b'],
      },
    }),
    tokenizerConfig: JSON.stringify({ bos_token: '<s>', eos_token: '</s>' }),
  })
}
