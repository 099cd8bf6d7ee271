#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "losses/sums.h"
#include "train/terms/fields.h"

namespace at {
class Tensor;
}

namespace posttrain::train {

struct HiddenStates;

/** The parts of the forward that a term reads. */
enum class Reads {
  /** Log-probability and entropy of a label. The loss of a label needs that label alone, so its
   * gradient is known with it and its logits are made once. */
  each_label,
  /** Log-probabilities of all labels: the loss joins several, so logits are computed a second time
   * for the gradient. */
  all_labels,
  /** The scalar head where each label is predicted. */
  values,
  /** The scalar head at the last token of each document. */
  scores,
  /** The hidden states where labels are predicted. */
  hidden,
};

constexpr bool reads_log_probs(Reads reads) {
  switch (reads) {
    case Reads::each_label:
    case Reads::all_labels:
      return true;
    case Reads::values:
    case Reads::scores:
    case Reads::hidden:
      return false;
  }
  return false;
}

constexpr bool reads_scalar_head(Reads reads) {
  switch (reads) {
    case Reads::values:
    case Reads::scores:
      return true;
    case Reads::each_label:
    case Reads::all_labels:
    case Reads::hidden:
      return false;
  }
  return false;
}

/** A vector of a term with one value a token of the batch, [T]; the forward replaces it by its
 * values at the labels, [R]. */
struct OfTokens {
  const char* name;
  std::vector<double>* values;
  bool required = true;
};

struct Needs {
  Reads reads;
  std::vector<OfTokens> of_tokens = {};
  /** The label that does not count, where the term has one of its own. */
  std::optional<int64_t> ignore_index = std::nullopt;
};

/**
 * R rows of the forward: labels, or with Reads::scores the last tokens of documents. Where a
 * gradient is taken label by label it is a part of the R of the batch, from row `first` on. Spans
 * of what no term reads are empty, and all of them where nothing is labeled.
 */
struct Outputs {
  size_t first = 0;
  std::span<const double> log_probs, entropy;  // [R]
  std::span<const uint8_t> correct;            // [R]: the label was the most probable token
  std::span<const double> values;              // [R]: of the scalar head
  std::span<const double> weights;             // [R]: of the labels, from the batch
  std::span<const int64_t> documents;          // [R]: ascending
  size_t document_count = 0;
  const HiddenStates* hidden = nullptr;  // null where nothing is labeled

  /** These rows of one of the term's vectors of tokens; empty stays empty. */
  std::span<const double> part(const std::vector<double>& of_labels) const {
    return of_labels.empty() ? std::span<const double>()
                             : std::span(of_labels).subspan(first, documents.size());
  }
};

/** Where a term adds its gradient of coefficient * loss / normalizer; empty or null: nowhere. */
struct Gradient {
  double normalizer = 1;
  std::span<double> log_probs, entropy, values;  // [R]
  at::Tensor* hidden = nullptr;                  // [R, D]
};

/**
 * A loss of one forward with a coefficient. `read` takes its options from the boundary and checks
 * them, `needs` says what it reads of the forward, `loss` gives its undivided sums and adds its
 * gradient.
 */
template <class T>
concept Term = requires(T term, const T& fixed, const Fields& fields, const Outputs& outputs,
                        const Gradient& gradient) {
  { T::kKind } -> std::convertible_to<const char*>;
  { term.coefficient } -> std::same_as<double&>;
  { T::read(fields) } -> std::same_as<T>;
  { term.needs() } -> std::same_as<Needs>;
  { fixed.loss(outputs, gradient) } -> std::same_as<losses::Sums>;
};

}  // namespace posttrain::train
