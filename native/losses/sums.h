#pragma once
#include <string>
#include <utility>
#include <vector>

namespace posttrain::losses {

/** Sums of one term over what it counts (tokens, sequences or pairs); nothing is divided by
 * anything. */
struct Sums {
  double loss = 0;
  /** Sum of the weights: what a mean divides by. */
  double count = 0;
  /** Further sums by their names on the other side of the boundary. */
  std::vector<std::pair<std::string, double>> more;
};

}  // namespace posttrain::losses
