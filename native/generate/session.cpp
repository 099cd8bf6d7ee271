#include "generate/session.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <unordered_map>

#include "core/philox.h"
#include "core/transfer.h"
#include "models/tokens.h"

namespace posttrain::generate {

Session::Session(std::shared_ptr<models::Role> role, std::vector<std::vector<int32_t>> prompts,
                 SessionOptions options)
    : role_(std::move(role)), options_(std::move(options)) {
  TORCH_CHECK_VALUE(!prompts.empty(), "[generate] no prompts");
  TORCH_CHECK_VALUE(options_.max_new_tokens.size() == prompts.size(),
                    "[generate] maxNewTokens has ", options_.max_new_tokens.size(), " values for ",
                    prompts.size(), " prompts");
  TORCH_CHECK_VALUE(options_.rows_at_once > 0, "[generate] batchSize must be at least 1, got ",
                    options_.rows_at_once);
  const int64_t vocab = role_->base->spec().vocab_size;
  for (size_t i = 0; i < prompts.size(); ++i) {
    TORCH_CHECK_VALUE(!prompts[i].empty(), "[generate] prompt ", i, " is empty");
    for (const int32_t id : prompts[i]) {
      TORCH_CHECK_VALUE(id >= 0 && id < vocab, "[generate] prompt ", i, " has token ", id,
                        ", outside the vocabulary of ", vocab);
    }
    const int32_t room = options_.max_new_tokens[i];
    TORCH_CHECK_VALUE(room > 0, "[generate] maxNewTokens must be at least 1, got ", room);
    waiting_.push_back({static_cast<int32_t>(i), std::move(prompts[i]), room});
  }
  std::reverse(waiting_.begin(), waiting_.end());
}

void Session::reserve(int64_t rows, int64_t positions) {
  if (rows <= places_ && positions <= capacity_) return;
  const auto& spec = role_->base->spec();
  const auto options =
      at::TensorOptions().dtype(role_->base->dtype()).device(role_->base->device());
  int64_t capacity = capacity_;
  if (positions > capacity_) {
    // Grows by doubling up to the longest possible row, since most rows end early.
    int64_t longest = 0;
    for (const auto& row : rows_)
      longest = std::max(longest, static_cast<int64_t>(row.history.size()) + row.room);
    capacity =
        std::max(positions, std::min(longest, std::max<int64_t>(2 * capacity_, positions + 32)));
  }
  // Places of rows that ended are kept for prompts that wait.
  const int64_t places = waiting_.empty() ? rows : std::max(rows, places_);
  const int64_t kept = std::min(places, places_);
  caches_.resize(spec.layers.size());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto& layer = spec.layers[i];
    // Zeros where nothing is written yet.
    auto cache = at::empty({places, capacity, 2, layer.kv_heads, layer.head_dim}, options);
    if (kept > 0)
      cache.narrow(0, 0, kept).narrow(1, 0, capacity_).copy_(caches_[i].narrow(0, 0, kept));
    cache.narrow(0, 0, kept).narrow(1, capacity_, capacity - capacity_).zero_();
    cache.narrow(0, kept, places - kept).zero_();
    // One layer after another, so that only one is held twice.
    caches_[i] = std::move(cache);
  }
  capacity_ = capacity;
  places_ = places;
}

int64_t Session::longest_history() const {
  size_t longest = 0;
  for (const auto& row : rows_) longest = std::max(longest, row.history.size());
  return static_cast<int64_t>(longest) + pending_;
}

int64_t Session::admit() {
  const auto running = static_cast<int64_t>(rows_.size());
  const int64_t free = options_.rows_at_once - running;
  // A forward of prompts reads all weights, as a step of all rows does.
  if (waiting_.empty() || (running > 0 && free < std::max<int64_t>(1, options_.rows_at_once / 8)))
    return -1;
  for (int64_t i = 0; i < free && !waiting_.empty(); ++i) {
    rows_.push_back(std::move(waiting_.back()));
    waiting_.pop_back();
  }
  changed_ = true;
  return running;
}

at::Tensor Session::prefill(size_t first, const core::Cancel& cancel) {
  std::vector<int32_t> ids, offsets{0};
  std::vector<int64_t> last;
  for (size_t b = first; b < rows_.size(); ++b) {
    const auto& history = rows_[b].history;
    ids.insert(ids.end(), history.begin(), history.end());
    offsets.push_back(static_cast<int32_t>(ids.size()));
    last.push_back(static_cast<int64_t>(ids.size()) - 1);
  }
  reserve(static_cast<int64_t>(rows_.size()), longest_history());
  const auto from = static_cast<int64_t>(first), count = static_cast<int64_t>(rows_.size()) - from;
  std::vector<at::Tensor> caches;
  for (const auto& cache : caches_) {
    caches.push_back(cache.narrow(0, from, count));
    // Rows that ended here may have left what is not finite.
    if (used_) caches.back().zero_();
  }
  used_ = true;
  auto& decoder = *role_->base;
  const auto tokens = models::tokens_of(ids, offsets, decoder.spec().vocab_size, decoder.device());
  return decoder.forward(tokens, core::on_device(at::tensor(last, at::kLong), decoder.device()),
                         role_->active_adapter(), nullptr, &caches, cancel);
}

void Session::advance_rows() {
  auto& rows = decoding_;
  const bool same = !changed_;
  const int64_t capacity = capacity_;
  rows.lengths.clear();
  for (const auto& row : rows_)
    rows.lengths.push_back(static_cast<int64_t>(row.history.size()) + pending_);
  rows.longest = longest_history();
  reserve(static_cast<int64_t>(rows_.size()), rows.longest);
  if (same) {
    rows.lengths_B.add_(1);
    rows.positions_B.add_(1);
  } else {
    const auto device = role_->base->device();
    const auto count = static_cast<int64_t>(rows_.size());
    rows.positions_B = core::on_device(at::tensor(rows.lengths, at::kLong).sub_(1), device);
    rows.lengths_B = (rows.positions_B + 1).to(at::kInt);
    rows.rows_B = at::arange(count, rows.positions_B.options());
    rows.offsets_B1 = at::arange(count + 1, rows.lengths_B.options());
  }
  if (!same || capacity_ != capacity) rows.cache_rows_B1 = rows.offsets_B1 * capacity_;
  changed_ = false;
}

at::Tensor Session::decode(const core::Cancel& cancel) {
  auto& decoder = *role_->base;
  if (changed_ || !ids_B_.defined()) {
    std::vector<int64_t> ids;
    for (const auto& row : rows_) ids.push_back(row.history.back());
    ids_B_ = core::on_device(at::tensor(ids, at::kLong), decoder.device());
  }
  advance_rows();
  std::vector<at::Tensor> caches;
  for (const auto& cache : caches_)
    caches.push_back(cache.narrow(0, 0, static_cast<int64_t>(rows_.size())));
  return decoder.decode(ids_B_, decoding_, role_->active_adapter(), caches, cancel);
}

void Session::draw(const at::Tensor& logits_BV, size_t first, Advance& result) {
  const auto logits = core::on_host(logits_BV, at::kFloat);
  ids_B_ = at::Tensor();
  const auto columns = static_cast<size_t>(logits.size(1));
  const float* values = logits.const_data_ptr<float>();
  std::vector<Draw> draws(rows_.size() - first);
  at::parallel_for(0, static_cast<int64_t>(draws.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) {
      const auto& row = rows_[first + b];
      draws[b] =
          sample({values + b * columns, columns}, row.history, options_.sampling,
                 static_cast<uint32_t>(row.index), static_cast<uint32_t>(row.history.size()));
    }
  });
  for (size_t b = 0; b < draws.size(); ++b) accept(rows_[first + b], draws[b], result);
}

void Session::accept(Row& row, const Draw& token, Advance& result) {
  row.history.push_back(token.id);
  --row.room;
  result.rows.push_back(row.index);
  result.ids.push_back(token.id);
  result.log_probs.push_back(token.log_prob);
  const bool stopped = options_.stop_ids.contains(token.id);
  if (stopped || row.room == 0) {
    row.running = false;
    result.finished.push_back({row.index, stopped});
  }
}

void Session::draw_on_device(const at::Tensor& logits_BV, size_t first, int64_t steps,
                             std::vector<DeviceDraws>& drawn) {
  const auto device = logits_BV.device();
  const auto& sampling = options_.sampling;
  const auto count = static_cast<int64_t>(rows_.size() - first);
  const auto step = static_cast<int64_t>(drawn.size());
  if (step == 0 && sampling.temperature > 0) {
    std::vector<double> uniforms;
    for (int64_t i = 0; i < steps; ++i) {
      for (size_t b = first; b < rows_.size(); ++b)
        uniforms.push_back(core::uniform(sampling.seed, core::Stream::sampling,
                                         static_cast<uint32_t>(rows_[b].index),
                                         static_cast<uint32_t>(rows_[b].history.size() + i)));
    }
    uniforms_SB_ = core::on_device(at::tensor(uniforms, at::kDouble).view({steps, count}), device);
  }
  if (step == 0 && sampling.repetition_penalty != 1) {
    std::vector<int64_t> places;
    for (size_t b = first; b < rows_.size(); ++b) {
      for (const int32_t id : rows_[b].history)
        places.push_back(static_cast<int64_t>(b - first) * logits_BV.size(1) + id);
    }
    seen_BV_ = at::zeros({count * logits_BV.size(1)}, logits_BV.options().dtype(at::kBool));
    seen_BV_.index_fill_(0, core::on_device(at::tensor(places, at::kLong), device), true);
    seen_BV_ = seen_BV_.view({count, logits_BV.size(1)});
  } else if (seen_BV_.defined()) {
    seen_BV_.scatter_(1, drawn.back().ids_B.unsqueeze(1), true);
  }
  drawn.push_back(sample_on_device(
      logits_BV, seen_BV_, sampling.temperature > 0 ? uniforms_SB_.select(0, step) : at::Tensor(),
      sampling));
}

void Session::take(const std::vector<DeviceDraws>& drawn, size_t first, Advance& result) {
  std::vector<at::Tensor> columns;
  for (const auto& step : drawn) {
    columns.push_back(step.ids_B.to(at::kDouble));
    columns.push_back(step.log_probs_B);
  }
  const auto values = core::on_host(at::stack(columns), at::kDouble);
  pending_ = 0;
  const auto count = static_cast<int64_t>(rows_.size() - first);
  const double* value = values.const_data_ptr<double>();
  for (size_t step = 0; step < drawn.size(); ++step, value += 2 * count) {
    for (int64_t b = 0; b < count; ++b) {
      auto& row = rows_[first + b];
      if (!row.running) continue;
      if (std::isnan(value[count + b])) throw non_finite_logits();
      accept(row, {static_cast<int32_t>(value[b]), static_cast<float>(value[count + b])}, result);
    }
  }
}

int64_t Session::step(int64_t first, int64_t most, Advance& result, const core::Cancel& cancel) {
  const bool prompts = first >= 0;
  const auto from = static_cast<size_t>(prompts ? first : 0);
  const auto next = [&] {
    const auto hidden_BD = prompts ? prefill(from, cancel) : decode(cancel);
    return role_->base->head(role_->active_adapter()).decode(hidden_BD);
  };
  if (!draws_on_device_) {
    draw(next(), from, result);
    return 1;
  }
  int64_t steps = prompts ? 1 : most;
  for (const auto& row : rows_) steps = std::min(steps, row.room);
  std::vector<DeviceDraws> drawn;
  for (int64_t i = 0; i < steps; ++i) {
    draw_on_device(next(), from, steps, drawn);
    ids_B_ = drawn.back().ids_B;
    ++pending_;
  }
  take(drawn, from, result);
  return steps;
}

void Session::compact() {
  for (size_t b = rows_.size(); b-- > 0;) {
    if (rows_[b].running) continue;
    changed_ = true;
    const size_t last = rows_.size() - 1;
    if (b != last) {
      const auto held = static_cast<int64_t>(rows_[last].history.size());
      for (auto& cache : caches_)
        cache.select(0, static_cast<int64_t>(b))
            .narrow(0, 0, std::min(held, capacity_))
            .copy_(cache.select(0, static_cast<int64_t>(last))
                       .narrow(0, 0, std::min(held, capacity_)));
      rows_[b] = std::move(rows_[last]);
    }
    rows_.pop_back();
  }
}

Advance Session::advance(int64_t tokens, const core::Cancel& cancel) {
  TORCH_CHECK_VALUE(tokens > 0, "[generate] tokens must be at least 1, got ", tokens);
  TORCH_CHECK(!broken_, "[generate] an earlier call on this session failed: start a new one");
  broken_ = true;
  // The sums of draws have no order of their own on a device, and the process may have become
  // deterministic since the last call.
  draws_on_device_ =
      role_->base->kernels().draws_on_device &&
      !(options_.sampling.temperature > 0 && at::globalContext().deterministicAlgorithms());
  Advance result;
  for (int64_t left = tokens; left > 0;) {
    cancel.check();
    const int64_t first = admit();
    if (rows_.empty()) break;
    left -= step(first, left, result, cancel);
    compact();
  }
  broken_ = false;
  return result;
}

void Session::finish(const std::vector<int32_t>& rows) {
  for (const int32_t index : rows) {
    for (auto& row : rows_) {
      if (row.index == index) row.running = false;
    }
    std::erase_if(waiting_, [&](const Row& row) { return row.index == index; });
  }
  compact();
}

}  // namespace posttrain::generate
