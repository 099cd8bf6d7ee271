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
  /** Log-probability of a label, in which its loss is linear: the gradient by it is known before
   * the logits are. */
  linear_label,
  /** Log-probability and entropy of a label. The loss of a label depends on that label alone, so
   * its gradient is known at once and its logits are computed once (on a device, where a look at
   * the losses waits, twice if they take more than one chunk). */
  each_label,
  /** Log-probabilities of all labels: the loss combines several, so logits are computed again
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
    case Reads::linear_label:
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
    case Reads::linear_label:
    case Reads::each_label:
    case Reads::all_labels:
    case Reads::hidden:
      return false;
  }
  return false;
}

/** A vector of a term with one value per token of the batch, [T]; the forward replaces it with
 * its values at the labels, [R]. */
struct OfTokens {
  const char* name;
  std::vector<double>* values;
  bool required = true;
};

struct Needs {
  Reads reads;
  std::vector<OfTokens> of_tokens = {};
  /** Ignored label, where the term sets its own. */
  std::optional<int64_t> ignore_index = std::nullopt;
};

/**
 * R rows of the forward: labels, or with Reads::scores the last tokens of documents. Where
 * gradients are taken label by label it holds a part of the R rows, from row `first` on. Spans
 * that no term reads are empty, and all of them if nothing is labeled.
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

/** Buffers for the gradient of coefficient * loss / normalizer; empty or null: none. */
struct Gradient {
  double normalizer = 1;
  std::span<double> log_probs, entropy, values;  // [R]
  at::Tensor* hidden = nullptr;                  // [R, D]
};

/**
 * A loss of one forward with a coefficient. `read` reads and checks its options from
 * JavaScript, `needs` declares the parts of the forward, `loss` returns undivided sums and adds its
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
