#include "models/tokens.h"

#include <algorithm>

#include "core/transfer.h"

namespace posttrain::models {

Tokens tokens_of(const std::vector<int32_t>& ids, const std::vector<int32_t>& offsets,
                 int64_t vocab_size, at::Device device) {
  const auto count = static_cast<int64_t>(ids.size());
  TORCH_CHECK_VALUE(count > 0, "[batch] inputIds is empty");
  TORCH_CHECK_VALUE(offsets.size() >= 2 && offsets.front() == 0 && offsets.back() == count,
                    "[batch] offsets must go from 0 to the number of tokens, ", count);
  auto ids_T = at::empty({count}, at::kLong), positions_T = at::empty({count}, at::kLong);
  auto* id = ids_T.mutable_data_ptr<int64_t>();
  auto* position = positions_T.mutable_data_ptr<int64_t>();
  for (int64_t t = 0; t < count; ++t) {
    TORCH_CHECK_VALUE(ids[t] >= 0 && ids[t] < vocab_size, "[batch] inputIds[", t, "] is ", ids[t],
                      ", outside the vocabulary of ", vocab_size);
    id[t] = ids[t];
  }
  Tokens result;
  auto& documents = result.documents;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const int64_t from = offsets[d], to = offsets[d + 1];
    TORCH_CHECK_VALUE(from < to && to <= count, "[batch] document ", d,
                      " is empty: offsets must increase");
    for (int64_t t = from; t < to; ++t) position[t] = t - from;
    documents.offsets.push_back(from);
    documents.longest = std::max(documents.longest, to - from);
  }
  documents.offsets.push_back(count);
  documents.offsets_D1 = core::on_device(at::tensor(offsets, at::kInt), device);
  result.ids_T = core::on_device(ids_T, device);
  result.positions_T = core::on_device(positions_T, device);
  return result;
}

}  // namespace posttrain::models
