#pragma once
#include <string>
#include <utility>
#include <vector>

namespace posttrain::losses {

/** Sums of one term over what it counts (tokens, sequences or pairs); none is
 * divided. */
struct Sums {
  double loss = 0;
  /** Sum of the weights: the divisor of a mean. */
  double count = 0;
  /** Further sums by their JavaScript names. */
  std::vector<std::pair<std::string, double>> more;
};

}  // namespace posttrain::losses
