#pragma once
#include <memory>
#include <unordered_set>
#include <vector>

#include "generate/sampler.h"
#include "models/role.h"

namespace posttrain::generate {

struct SessionOptions {
  /** For each prompt: its own room in the context may be smaller than that of others. */
  std::vector<int32_t> max_new_tokens;
  Sampling sampling;
  std::unordered_set<int32_t> stop_ids;
};

/** Tokens of the rows in order of production; a row's stop token is included. */
struct Advance {
  struct Finished {
    int32_t row;
    bool stopped;  // otherwise it reached its max_new_tokens
  };
  std::vector<int32_t> rows, ids;
  std::vector<float> log_probs;
  std::vector<Finished> finished;
};

/** Generation from B ragged prompts, advanced by short jobs so that other jobs are not
 * held up. */
class Session {
 public:
  Session(std::shared_ptr<models::Role> role, std::vector<std::vector<int32_t>> prompts,
          SessionOptions options);

  /** Prefills at the first call; then up to `tokens` decoding steps over the unfinished rows.
   */
  Advance advance(int64_t tokens, const core::Cancel& cancel);
  /** Finishes rows early. */
  void finish(const std::vector<int32_t>& rows);

 private:
  struct Row {
    int32_t index;                 // in the caller's order
    std::vector<int32_t> history;  // prompt and generated tokens
    int64_t room;                  // tokens that may still be generated
    bool running = true;
  };
  at::Tensor prefill(const core::Cancel& cancel);
  at::Tensor decode(const core::Cancel& cancel);
  /** Draws one token for every row from hidden [B, D]. */
  void draw(const at::Tensor& hidden_BD, Advance& result);
  /** Drops finished rows from the caches. */
  void compact();
  void reserve(int64_t positions);
  /** Brings the device's view of the rows to their next token. */
  void advance_rows();

  std::shared_ptr<models::Role> role_;
  SessionOptions options_;
  std::vector<Row> rows_;
  /** Of each layer; see device::Kernels. */
  std::vector<at::Tensor> caches_;
  /** What the device knows of the rows that are decoded; advances with them. */
  device::DecodeRows decoding_;
  int64_t capacity_ = 0;
  bool prefilled_ = false;
  bool broken_ = false;
};

}  // namespace posttrain::generate
