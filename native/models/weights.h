#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "models/role.h"

namespace posttrain::models {

/** Maps a tensor of a file to rows of a parameter, for loading and saving. */
struct WeightMapEntry {
  std::string name;
  std::string parameter;
  /** First native row and count; count -1 for all rows. */
  int64_t first_row = 0;
  int64_t row_count = -1;
  bool transpose = false;
  /** How the file has a weight that is in 4 bits in memory: in a dtype of its own, and it is coded
   * when it is read; in 4 bits; or in a dtype of its own, which it keeps. */
  enum class Coding { on_reading, in_file, none };
  Coding coding = Coding::on_reading;
  /** Other files that have tensors beside one in 4 bits. */
  std::vector<std::string> companions;
};

/** The part of the parameter's value (or gradient) that the entry maps, in the layout of the file:
 * a view, or a temporary of a weight in 4 bits. */
at::Tensor view_of(Role& role, const WeightMapEntry& entry, bool gradient);

/** Shape of the part that the entry maps, in the layout of the file. */
std::vector<int64_t> shape_of(Role& role, const WeightMapEntry& entry);

/** Sets the part of the parameter's value that the entry maps, from values in the layout of the
 * file. */
void set_values(Role& role, const WeightMapEntry& entry, const at::Tensor& values);

/** Reads every entry into its parameter; shapes must agree. Throws Error(ERR_INVALID_FILE). */
void load_weights(Role& role, const std::string& path, const std::vector<WeightMapEntry>& entries,
                  const core::Cancel& cancel);
/** Whether each tensor of the file has the base's values, once read in the base's dtype. Throws
 * Error(ERR_INVALID_FILE). */
std::vector<bool> same_weights(Decoder& base, const std::string& path,
                               const std::vector<WeightMapEntry>& entries,
                               const core::Cancel& cancel);
/** Writes and syncs one safetensors file in `dtype`. */
void save_weights(Role& role, const std::string& path, const std::vector<WeightMapEntry>& entries,
                  at::ScalarType dtype, const std::map<std::string, std::string>& metadata,
                  const core::Cancel& cancel);

}  // namespace posttrain::models
