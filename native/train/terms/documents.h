#pragma once
#include "train/terms/term.h"

namespace posttrain::train {

/** Sums of the log-probabilities of each document's labels, [D]; `lengths` gets the label counts.
 */
std::vector<double> document_sums(const Outputs& outputs, std::vector<double>* lengths = nullptr);

/** Adds to each label the derivative by the sum of its document, [D]. */
void add_by_document(const std::vector<double>& derivatives, const Outputs& outputs,
                     const Gradient& gradient);

/** Throws ValueError unless `pairs` [2 P] are documents of the batch and `weights` is P or 0. */
void check_pairs(const std::vector<int32_t>& pairs, size_t weights, size_t document_count);

}  // namespace posttrain::train
