#include "train/batch.h"

#include <c10/util/Exception.h>

#include <cmath>

namespace posttrain::train {

Rows last_tokens_of(const Batch& batch) {
  Rows rows;
  for (size_t d = 0; d + 1 < batch.offsets.size(); ++d) {
    rows.tokens.push_back(batch.offsets[d + 1] - 1);
    rows.documents.push_back(static_cast<int64_t>(d));
  }
  return rows;
}

Labels labels_of(const Batch& batch, int64_t ignore_index, int64_t vocab_size) {
  TORCH_CHECK_VALUE(batch.labels.size() == batch.input_ids.size(), "[batch] labels has ",
                    batch.labels.size(), " entries, inputIds has ", batch.input_ids.size());
  TORCH_CHECK_VALUE(batch.weights.empty() || batch.weights.size() == batch.labels.size(),
                    "[batch] weights has ", batch.weights.size(), " entries, labels has ",
                    batch.labels.size());
  Labels result;
  for (size_t d = 0; d + 1 < batch.offsets.size(); ++d) {
    for (int64_t t = batch.offsets[d] + 1; t < batch.offsets[d + 1]; ++t) {
      const int64_t label = batch.labels[t];
      if (label == ignore_index) continue;
      TORCH_CHECK_VALUE(label >= 0 && label < vocab_size, "[batch] labels[", t, "] is ", label,
                        ", neither in the vocabulary of ", vocab_size, " nor the ignoreIndex ",
                        ignore_index);
      const double weight = batch.weights.empty() ? 1 : batch.weights[t];
      TORCH_CHECK_VALUE(weight >= 0 && std::isfinite(weight), "[batch] weights[", t,
                        "] must be finite and not negative, got ", weight);
      result.rows.tokens.push_back(t - 1);
      result.rows.documents.push_back(static_cast<int64_t>(d));
      result.targets.push_back(label);
      result.weights.push_back(weight);
    }
  }
  return result;
}

}  // namespace posttrain::train
