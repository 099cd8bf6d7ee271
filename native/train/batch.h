#pragma once
#include <cstdint>
#include <vector>

namespace posttrain::train {

/** Label of a token that is not predicted. */
inline constexpr int64_t kIgnoreIndex = -100;

/** A packed batch copied from JavaScript. */
struct Batch {
  std::vector<int32_t> input_ids;  // [T]
  std::vector<int32_t> offsets;    // [D + 1]
  std::vector<int32_t> labels;     // [T], or empty
  std::vector<float> weights;      // [T], or empty
};

/** The tokens at which the hidden states of a forward are read. */
struct Rows {
  std::vector<int64_t> tokens;     // [R]: ascending
  std::vector<int64_t> documents;  // [R]: their documents
};

/** The last token of each document. */
Rows last_tokens_of(const Batch& batch);

/** The tokens whose next token is a label. */
struct Labels {
  Rows rows;  // [R]: t such that labels[t + 1] counts and is in the same document
  std::vector<int64_t> targets;  // [R]: those labels
  std::vector<double> weights;   // [R]
};

/** The shift: labels[t] is predicted at t - 1, never across documents; the first token of a
 * document is not predicted. */
Labels labels_of(const Batch& batch, int64_t ignore_index, int64_t vocab_size);

}  // namespace posttrain::train
