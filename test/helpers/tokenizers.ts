import { Tokenizer } from '../../lib/data/text/tokenizer.js'

/** A tokenizer without merges: each token of the vocabulary, and `<eos>` behind them. */
function mergeless(vocab: Record<string, number>, preTokenizer: object | null, decoder: object): Tokenizer {
  const eos = {
    id: Object.keys(vocab).length,
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
      pre_tokenizer: preTokenizer,
      post_processor: null,
      decoder,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab,
        merges: [],
      },
    }),
    tokenizerConfig: JSON.stringify({ eos_token: '<eos>', tokenizer_class: 'PreTrainedTokenizerFast' }),
  })
}

/** A tokenizer whose 256 tokens are the bytes, and `<eos>`. */
export function byteTokenizer(): Tokenizer {
  const vocab: Record<string, number> = {}
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    vocab[String.fromCodePoint(printable ? byte : next++)] = byte
  }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return mergeless(vocab, byteLevel, byteLevel)
}

/** A tokenizer whose tokens are these characters, in their order, and then `<eos>`. */
export function characterTokenizer(characters: string): Tokenizer {
  const vocab = Object.fromEntries([...characters].map((character, id) => [character, id]))
  return mergeless(vocab, null, { type: 'Fuse' })
}
