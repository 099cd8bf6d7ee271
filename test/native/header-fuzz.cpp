// Parses mutants of a safetensors header with the core's own parser: header-fuzz COUNT SEED. Only a core::Error with
// ERR_INVALID_FILE is an answer; a sanitizer ends the process at anything else.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/tensor_header.h"

using posttrain::core::Error;
using posttrain::core::TensorHeader;

namespace {

const std::string kSeeds[] = {
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})",
    R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"é\n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})",
    R"({"__proto__":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}      )",
};
const std::string kPieces[] = {
    "{", "}", "[", "]", "\"", ",", ":", "-", "0", "1e9", "18446744073709551615", "18446744073709551616", "9223372036854775807",
    "\\u0000", "\\ud83d", "\\", std::string(1, '\0'), "null", "true", "[[[[[[[[", "{\"a\":", "\"a\":{}", "F32", "F8_E4M3", "\xff\xfe", "\xc3",
};

/** Bytes of the tensors that each seed describes. */
constexpr uint64_t kData[] = {26, 8, 4};

std::string mutant(std::mt19937_64& random, size_t seed) {
  auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
  std::string text = kSeeds[seed];
  for (size_t times = below(4); times > 0; --times) {
    size_t at = below(text.size() + 1);
    switch (below(5)) {
      case 0: text.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 1: text.erase(at, below(12)); break;
      case 2: if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8))); break;
      case 3: text.insert(at, text.substr(below(text.size() + 1), below(40))); break;
      default: text.replace(at, below(6), kPieces[below(std::size(kPieces))]);
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 1000;
  std::mt19937_64 random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  long taken = 0;
  long refused = 0;
  for (long i = 0; i < count; ++i) {
    const size_t seed = random() % std::size(kSeeds);
    const std::string text = mutant(random, seed);
    // The exact size, so that a read past the end is seen; a length in front that is wrong now and then.
    uint64_t length = random() % 20 == 0 ? random() >> (random() % 64) : text.size();
    std::vector<uint8_t> bytes(8 + text.size());
    for (int k = 0; k < 8; ++k) bytes[k] = static_cast<uint8_t>(length >> (8 * k));
    std::copy(text.begin(), text.end(), bytes.begin() + 8);
    if (random() % 50 == 0) bytes.resize(random() % bytes.size());
    const uint64_t file_size = random() % 10 == 0 ? random() : bytes.size() + kData[seed];
    try {
      TensorHeader::parse(bytes.data(), bytes.size(), file_size, "mutant");
      ++taken;
    } catch (const Error& error) {
      if (error.code() != posttrain::core::ErrorCode::invalid_file) return 3;
      ++refused;
    }
  }
  std::printf("%ld taken, %ld refused\n", taken, refused);
}
