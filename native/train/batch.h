#pragma once
#include <cstdint>
#include <vector>

namespace posttrain::train {

/** The label of a token that is not to be predicted. */
inline constexpr int64_t kIgnoreIndex = -100;

/** A packed batch as it comes over the boundary: plain numbers, copied. */
struct Batch {
  std::vector<int32_t> input_ids;  // [T]
  std::vector<int32_t> offsets;    // [D + 1]
  std::vector<int32_t> labels;     // [T], or empty
  std::vector<float> weights;      // [T], or empty
};

/** The tokens at which the hidden states of a forward are read. */
struct Rows {
  std::vector<int64_t> tokens;     // [R]: ascending
  std::vector<int64_t> documents;  // [R]: of each
};

/** The last token of each document. */
Rows last_tokens_of(const Batch& batch);

/** The tokens whose next token is a label. */
struct Labels {
  Rows rows;  // [R]: t such that labels[t + 1] counts and is in the same document
  std::vector<int64_t> targets;  // [R]: that label
  std::vector<double> weights;   // [R]
};

/** The shift: labels[t] is predicted at t - 1, never across documents; the first token of a
 * document is not predicted. */
Labels labels_of(const Batch& batch, int64_t ignore_index, int64_t vocab_size);

}  // namespace posttrain::train
