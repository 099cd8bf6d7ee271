#include "train/terms/documents.h"

#include <c10/util/Exception.h>

namespace posttrain::train {

std::vector<double> document_sums(const Outputs& outputs, std::vector<double>* lengths) {
  std::vector<double> sums(outputs.document_count, 0);
  if (lengths != nullptr) lengths->assign(outputs.document_count, 0);
  for (size_t r = 0; r < outputs.log_probs.size(); ++r) {
    const auto document = static_cast<size_t>(outputs.documents[r]);
    sums[document] += outputs.log_probs[r];
    if (lengths != nullptr) (*lengths)[document] += 1;
  }
  return sums;
}

void add_by_document(const std::vector<double>& derivatives, const Outputs& outputs,
                     const Gradient& gradient) {
  for (size_t r = 0; r < gradient.log_probs.size(); ++r)
    gradient.log_probs[r] += derivatives[static_cast<size_t>(outputs.documents[r])];
}

void check_pairs(const std::vector<int32_t>& pairs, size_t weights, size_t document_count) {
  TORCH_CHECK_VALUE(pairs.size() % 2 == 0, "[backward] pairs has an odd number of entries");
  TORCH_CHECK_VALUE(weights == 0 || 2 * weights == pairs.size(), "[backward] ", weights,
                    " weights for ", pairs.size() / 2, " pairs");
  const auto documents = static_cast<int32_t>(document_count);
  for (const int32_t document : pairs) {
    TORCH_CHECK_VALUE(document >= 0 && document < documents, "[backward] pairs refers to document ",
                      document, " of ", documents);
  }
}

}  // namespace posttrain::train
