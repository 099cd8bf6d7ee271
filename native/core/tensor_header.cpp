#include "core/tensor_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "core/crc32c.h"
#include "core/error.h"

namespace posttrain::core {
namespace {

constexpr uint64_t kHeaderAtMost = 100'000'000;
/** The largest models have about 100,000 tensors in all of their files. */
constexpr size_t kTensorsAtMost = 500'000;

/** Strict reader of the subset of JSON that safetensors headers use. */
class Reader {
 public:
  Reader(const char* text, size_t length, const std::string& where)
      : at_(text), end_(text + length), where_(where) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::invalid_file, where_ + ": " + what);
  }

  void skip_space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ >= end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("the header is not valid JSON, expected '") + c + "'");
  }
  bool done() {
    skip_space();
    return at_ == end_;
  }

  std::string string() {
    expect('"');
    std::string result;
    while (true) {
      if (at_ >= end_) fail("the header ends inside a string");
      const char c = *at_++;
      if (c == '"') return result;
      if (static_cast<unsigned char>(c) < 0x20)
        fail("the header has a control character inside a string");
      if (c != '\\') {
        result += c;
        continue;
      }
      if (at_ >= end_) fail("the header ends inside a string");
      switch (const char escape = *at_++; escape) {
        case '"':
        case '\\':
        case '/':
          result += escape;
          break;
        case 'b':
          result += '\b';
          break;
        case 'f':
          result += '\f';
          break;
        case 'n':
          result += '\n';
          break;
        case 'r':
          result += '\r';
          break;
        case 't':
          result += '\t';
          break;
        case 'u':
          append_utf8(result, code_point());
          break;
        default:
          fail("the header has an unknown escape in a string");
      }
    }
  }

  uint64_t integer() {
    skip_space();
    const char* start = at_;
    uint64_t value = 0;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9') {
      const uint64_t digit = static_cast<uint64_t>(*at_ - '0');
      if (value > (std::numeric_limits<int64_t>::max() - digit) / 10)
        fail("a number in the header is too large");
      value = value * 10 + digit;
      ++at_;
    }
    if (at_ == start || (*start == '0' && at_ - start > 1))
      fail("the header has something other than a whole number where a size is expected");
    return value;
  }

  std::vector<uint64_t> integers() {
    std::vector<uint64_t> values;
    expect('[');
    if (take(']')) return values;
    do {
      if (values.size() >= 64) fail("a list in the header is too long");
      values.push_back(integer());
    } while (take(','));
    expect(']');
    return values;
  }

 private:
  unsigned hex4() {
    unsigned value = 0;
    for (int i = 0; i < 4; ++i) {
      if (at_ >= end_) fail("the header ends inside a string");
      const char c = *at_++;
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("the header has a broken \\u escape");
      value = value * 16 + static_cast<unsigned>(digit);
    }
    return value;
  }
  unsigned code_point() {
    const unsigned high = hex4();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u')
      fail("the header has half a surrogate pair");
    at_ += 2;
    const unsigned low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("the header has half a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }
  static void append_utf8(std::string& text, unsigned c) {
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else if (c < 0x800) {
      text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
      text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
               static_cast<char>(0x80 | (c & 0x3F))};
    } else {
      text += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
               static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    }
  }

  const char* at_;
  const char* end_;
  const std::string& where_;
};

void read_metadata(Reader& reader, std::map<std::string, std::string>& metadata) {
  reader.expect('{');
  if (reader.take('}')) return;
  do {
    auto key = reader.string();
    reader.expect(':');
    if (!metadata.emplace(key, reader.string()).second)
      reader.fail("the metadata has the key " + key + " twice");
  } while (reader.take(','));
  reader.expect('}');
}

TensorEntry read_entry(Reader& reader, std::string name) {
  TensorEntry entry;
  entry.name = std::move(name);
  std::set<std::string> seen;
  reader.expect('{');
  do {
    const auto key = reader.string();
    if (!seen.insert(key).second) reader.fail(entry.name + " has the key " + key + " twice");
    reader.expect(':');
    if (key == "dtype") {
      entry.dtype = reader.string();
    } else if (key == "shape") {
      for (const uint64_t size : reader.integers())
        entry.shape.push_back(static_cast<int64_t>(size));
    } else if (key == "data_offsets") {
      const auto offsets = reader.integers();
      if (offsets.size() != 2) reader.fail(entry.name + ": data_offsets must be two numbers");
      entry.begin = offsets[0];
      entry.end = offsets[1];
    } else {
      reader.fail(entry.name + " has the unknown key " + key);
    }
  } while (reader.take(','));
  reader.expect('}');
  if (seen.size() != 3) reader.fail(entry.name + " must have dtype, shape and data_offsets");
  return entry;
}

struct KnownDtype {
  const char* name;
  at::ScalarType type;
};
constexpr KnownDtype kDtypes[] = {{"F64", at::kDouble},    {"F32", at::kFloat}, {"F16", at::kHalf},
                                  {"BF16", at::kBFloat16}, {"I64", at::kLong},  {"I32", at::kInt},
                                  {"I16", at::kShort},     {"I8", at::kChar},   {"U8", at::kByte},
                                  {"BOOL", at::kBool}};

const KnownDtype* find_dtype(const std::string& name) {
  for (const auto& known : kDtypes) {
    if (name == known.name) return &known;
  }
  return nullptr;
}

std::string unknown_dtype(const std::string& name) {
  return "the dtype " + name +
         " is not one that posttrain reads (F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL)";
}

void check_size(const Reader& reader, const TensorEntry& entry, uint64_t data_size) {
  const auto* dtype = find_dtype(entry.dtype);
  if (dtype == nullptr) reader.fail(entry.name + ": " + unknown_dtype(entry.dtype));
  uint64_t bytes = c10::elementSize(dtype->type);
  for (const int64_t size : entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      reader.fail(entry.name + ": its shape is too large");
  }
  if (entry.end < entry.begin || entry.end > data_size) {
    reader.fail(entry.name + ": its bytes " + std::to_string(entry.begin) + " to " +
                std::to_string(entry.end) + " are outside the data of " +
                std::to_string(data_size) + " bytes; the file is truncated or damaged");
  }
  if (entry.end - entry.begin != bytes) {
    reader.fail(entry.name + ": its shape needs " + std::to_string(bytes) +
                " bytes, its offsets give " + std::to_string(entry.end - entry.begin));
  }
}

/** Gives the tensors their checksums, where the metadata has them for this layout. */
void read_checksums(const Reader& reader, TensorHeader& header) {
  const auto found = header.metadata.find(kChecksums);
  if (found == header.metadata.end()) return;
  const auto& digits = found->second;
  const auto are_digits = [&](size_t from, size_t count) {
    return digits.size() >= from + count &&
           digits.find_first_not_of("0123456789abcdef", from) >= from + count;
  };
  const auto checksum = [&](size_t i) {
    return static_cast<uint32_t>(std::stoul(digits.substr(8 * i, 8), nullptr, 16));
  };
  if (!are_digits(0, 8) || checksum(0) != checksum_of_layout(header.entries)) return;
  if (digits.size() != 8 * (header.entries.size() + 1) || !are_digits(8, digits.size() - 8))
    reader.fail(std::string(kChecksums) + " in the metadata is damaged, and so may be the file");
  for (size_t i = 0; i < header.entries.size(); ++i) header.entries[i].checksum = checksum(i + 1);
}

void refuse_other_formats(const uint8_t* bytes, size_t length, uint64_t file_size,
                          const std::string& where) {
  // A header of 640 bytes begins as a pickle does: 80 02.
  uint64_t size = 0;
  for (int i = 7; length > 8 && i >= 0; --i) size = size << 8 | bytes[i];
  if (length > 8 && bytes[8] == '{' && size <= kHeaderAtMost && size <= file_size - 8) return;
  const auto starts = [&](const char* magic, size_t n) {
    return length >= n && std::memcmp(bytes, magic, n) == 0;
  };
  const char* other = starts("PK\x03\x04", 4) || starts("\x80\x02", 2) || starts("\x80\x04", 2)
                          ? "a PyTorch pickle"
                      : starts("GGUF", 4) ? "a GGUF file"
                                          : nullptr;
  if (other != nullptr) {
    throw Error(ErrorCode::invalid_file,
                where + " is " + other + ", not safetensors: convert it to safetensors first");
  }
}

}  // namespace

at::ScalarType scalar_type_of(const std::string& dtype) {
  if (const auto* known = find_dtype(dtype)) return known->type;
  throw Error(ErrorCode::invalid_file, unknown_dtype(dtype));
}

std::string dtype_name_of(at::ScalarType type) {
  for (const auto& known : kDtypes) {
    if (type == known.type) return known.name;
  }
  throw Error(ErrorCode::invalid_argument,
              std::string("safetensors has no dtype for ") + c10::toString(type));
}

uint32_t checksum_of_layout(const std::vector<TensorEntry>& entries) {
  std::string text;
  for (const auto& entry : entries) {
    text += entry.name + '\0' + entry.dtype;
    for (const int64_t size : entry.shape) text += ' ' + std::to_string(size);
    text += '\n';
  }
  return crc32c(text.data(), text.size());
}

TensorHeader TensorHeader::parse(const uint8_t* bytes, size_t length, uint64_t file_size,
                                 const std::string& where) {
  refuse_other_formats(bytes, length, file_size, where);
  if (length < 8 || file_size < 8)
    throw Error(ErrorCode::invalid_file,
                where + " is too short to be safetensors; the file is truncated or empty");
  uint64_t size = 0;
  for (int i = 7; i >= 0; --i) size = size << 8 | bytes[i];
  if (size > kHeaderAtMost || size > file_size - 8 || size < 2) {
    throw Error(ErrorCode::invalid_file, where + ": its header says it has " +
                                             std::to_string(size) + " bytes in a file of " +
                                             std::to_string(file_size) +
                                             "; this is not safetensors, or the file is truncated");
  }
  if (length < 8 + size)
    throw Error(ErrorCode::invalid_file, where + ": the header could not be read completely");
  Reader reader(reinterpret_cast<const char*>(bytes) + 8, size, where);
  if (bytes[8] != '{') reader.fail("the header does not start with '{'; this is not safetensors");
  const uint64_t data_start = 8 + size, data_size = file_size - data_start;
  TensorHeader header;
  std::set<std::string> names;
  reader.expect('{');
  if (!reader.take('}')) {
    do {
      auto name = reader.string();
      reader.expect(':');
      if (!names.insert(name).second) reader.fail("the header has the key " + name + " twice");
      if (name == "__metadata__") {
        read_metadata(reader, header.metadata);
      } else {
        if (header.entries.size() == kTensorsAtMost)
          reader.fail("the header has more than " + std::to_string(kTensorsAtMost) + " tensors");
        header.entries.push_back(read_entry(reader, std::move(name)));
        check_size(reader, header.entries.back(), data_size);
      }
    } while (reader.take(','));
    reader.expect('}');
  }
  if (!reader.done()) reader.fail("unexpected data follows the JSON of the header");
  std::stable_sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t covered = 0;
  for (auto& entry : header.entries) {
    if (entry.begin != covered)
      reader.fail(entry.name +
                  (entry.begin < covered ? " overlaps another tensor" : " leaves a gap before it"));
    covered = entry.end;
    entry.begin += data_start;
    entry.end += data_start;
  }
  if (covered != data_size) {
    reader.fail(std::to_string(data_size - covered) + " bytes of the file belong to no tensor");
  }
  read_checksums(reader, header);
  return header;
}

}  // namespace posttrain::core
