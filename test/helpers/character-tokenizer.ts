import { Tokenizer } from '../../lib/data/text/tokenizer.js'

/** A tokenizer whose tokens are these characters, in their order, and then `<eos>`. */
export function characterTokenizer(characters: string): Tokenizer {
  const eos = {
    id: characters.length,
    content: '<eos>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }
  return Tokenizer.fromFiles({
    tokenizerJson: JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [eos],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: 'Fuse' },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab: Object.fromEntries([...characters].map((character, id) => [character, id])),
        merges: [],
      },
    }),
    tokenizerConfig: JSON.stringify({ eos_token: '<eos>', tokenizer_class: 'PreTrainedTokenizerFast' }),
  })
}
