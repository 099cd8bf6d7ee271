#pragma once
#include <memory>
#include <unordered_set>
#include <vector>

#include "generate/device_sampler.h"
#include "generate/sampler.h"
#include "models/role.h"

namespace posttrain::generate {

struct SessionOptions {
  /** For each prompt: its own room in the context may be smaller than that of others. */
  std::vector<int32_t> max_new_tokens;
  Sampling sampling;
  std::unordered_set<int32_t> stop_ids;
  /** Rows that are decoded together. */
  int64_t rows_at_once = 64;
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

/** Generation from ragged prompts, advanced by short jobs so that other jobs are not held up. Where
 * rows end, prompts that wait take their places. */
class Session {
 public:
  Session(std::shared_ptr<models::Role> role, std::vector<std::vector<int32_t>> prompts,
          SessionOptions options);

  /** Up to `tokens` steps, each a token for every row that is decoded, or the first token of
   * prompts that take free places. */
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
  /** Reads the prompts of the rows from `first` on into the cache; their last hidden states. */
  at::Tensor prefill(size_t first, const core::Cancel& cancel);
  at::Tensor decode(const core::Cancel& cancel);
  /** Gives waiting prompts free places, if enough are free to be worth a forward; the number of
   * rows before them, or -1. */
  int64_t admit();
  /** Draws one token for every row from `first` on, from logits [B, V]. */
  void draw(const at::Tensor& logits_BV, size_t first, Advance& result);
  /** The first token of the prompts from `first` on, or the next tokens of all rows where it is
   * negative: up to `most` where they are drawn on the device, which is asked once. Returns how
   * many. */
  int64_t step(int64_t first, int64_t most, Advance& result, const core::Cancel& cancel);
  /** Draws on the device; the steps before this one in a burst are in `drawn`. */
  void draw_on_device(const at::Tensor& logits_BV, size_t first, int64_t steps,
                      std::vector<DeviceDraws>& drawn);
  /** Takes what the device drew for the rows from `first` on. */
  void take(const std::vector<DeviceDraws>& drawn, size_t first, Advance& result);
  /** Adds a row's next token. */
  void accept(Row& row, const Draw& token, Advance& result);
  /** Puts the last rows in the places of those that ended. */
  void compact();
  /** Makes room for so many rows and positions. */
  void reserve(int64_t rows, int64_t positions);
  int64_t longest_history() const;
  /** Brings the device's view of the rows to their next token. */
  void advance_rows();

  std::shared_ptr<models::Role> role_;
  SessionOptions options_;
  /** Those that are decoded: row b is row b of the caches, which may have more. */
  std::vector<Row> rows_;
  /** In reverse order. */
  std::vector<Row> waiting_;
  /** Of each layer; see device::Kernels. */
  std::vector<at::Tensor> caches_;
  /** What the device knows of the rows that are decoded; advances with them. */
  device::DecodeRows decoding_;
  int64_t places_ = 0;
  int64_t capacity_ = 0;
  /** Whether `decoding_` is of other rows than these. */
  bool changed_ = true;
  /** Whether tokens are drawn where the logits lie. */
  bool draws_on_device_ = false;
  /** What is drawn on the device for each row of `decoding_`: the last ids (undefined where the
   * host drew them), the uniforms of a burst [steps, B], the tokens of each history [B, V]. */
  at::Tensor ids_B_, uniforms_SB_, seen_BV_;
  /** Tokens a row that the device drew and no history has yet. */
  int64_t pending_ = 0;
  /** Whether rows were in the caches before. */
  bool used_ = false;
  bool broken_ = false;
};

}  // namespace posttrain::generate
