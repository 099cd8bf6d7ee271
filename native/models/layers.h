#pragma once
#include <deque>

#include "models/block.h"
#include "nn/head.h"

namespace posttrain::models {

/**
 * The layers of a decoder, each with pointers to the parameters that it computes with: the base's
 * own, or an adapter's copies in place of some.
 */
struct Layers {
  nn::Parameter* embed = nullptr;
  /** Null where positions are rotary. */
  nn::Parameter* positions = nullptr;
  std::deque<Block> blocks;
  nn::Norm norm;
  /** The token embedding where the head is tied. */
  nn::Parameter* head = nullptr;

  /** Puts `copy` in place of a parameter of the blocks, the final norm or the positions. */
  void replace(const nn::Parameter* original, nn::Parameter* copy);
};

}  // namespace posttrain::models
