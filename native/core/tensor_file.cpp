#include "core/tensor_file.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/crc32c.h"
#include "core/error.h"

namespace posttrain::core {
namespace {

/** Bytes that a thread reads and sums at once: they stay in its cache in between. */
constexpr int64_t kPiece = int64_t{1} << 20;

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  throw Error(ErrorCode::io, std::string(doing) + " " + path + " failed: " + std::strerror(error));
}

/** 0, or the errno; EIO at the end of the file. */
int read_fully(int descriptor, void* target, size_t count, uint64_t offset) {
  auto* at = static_cast<uint8_t*>(target);
  while (count > 0) {
    const ssize_t n = pread(descriptor, at, count, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    at += n;
    count -= static_cast<size_t>(n);
    offset += static_cast<uint64_t>(n);
  }
  return 0;
}

int64_t pieces_of(int64_t bytes) { return (bytes + kPiece - 1) / kPiece; }

/** The checksum of `bytes` bytes from those of their pieces. */
uint32_t joined(const std::vector<uint32_t>& parts, int64_t bytes) {
  uint32_t whole = 0;
  for (int64_t piece = 0; piece < pieces_of(bytes); ++piece) {
    const auto size = static_cast<uint64_t>(std::min(kPiece, bytes - piece * kPiece));
    whole = crc32c_joined(whole, parts[static_cast<size_t>(piece)], size);
  }
  return whole;
}

/** Checksums of the pieces of `bytes` bytes; `prepare` is called for each before it is read. */
template <class Prepare>
std::vector<uint32_t> checksums_of(const uint8_t* data, int64_t bytes, const Prepare& prepare) {
  std::vector<uint32_t> parts(static_cast<size_t>(pieces_of(bytes)));
  at::parallel_for(0, pieces_of(bytes), 1, [&](int64_t from, int64_t to) {
    for (int64_t piece = from; piece < to; ++piece) {
      const int64_t start = piece * kPiece;
      const auto size = static_cast<size_t>(std::min(kPiece, bytes - start));
      prepare(start, size);
      parts[static_cast<size_t>(piece)] = crc32c(data + start, size);
    }
  });
  return parts;
}

uint32_t checksum_of(const void* data, int64_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  return joined(checksums_of(from, bytes, [](int64_t, size_t) {}), bytes);
}

/** A file being written, removed unless finish() is called. */
class Output {
 public:
  explicit Output(const std::string& path)
      : path_(path),
        descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) fail(path_, "creating", errno);
    struct stat status;
    regular_ = fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  }
  ~Output() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    remove();
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void write(const void* data, size_t count) {
    const auto* at = static_cast<const uint8_t*>(data);
    while (count > 0) {
      const ssize_t n = ::write(descriptor_, at, count);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(path_, "writing", errno);
      at += n;
      count -= static_cast<size_t>(n);
    }
  }
  void write_at(uint64_t offset, const std::string& text) {
    size_t done = 0;
    while (done < text.size()) {
      const ssize_t n = ::pwrite(descriptor_, text.data() + done, text.size() - done,
                                 static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(path_, "writing", errno);
      done += static_cast<size_t>(n);
    }
  }
  void finish() {
    if (fsync(descriptor_) != 0) fail(path_, "syncing", errno);
    const int descriptor = std::exchange(descriptor_, -1);
    if (::close(descriptor) != 0) {
      const int error = errno;
      remove();
      fail(path_, "closing", error);
    }
  }

 private:
  /** Removes the file; never a device or a pipe. */
  void remove() {
    if (regular_) ::unlink(path_.c_str());
  }

  std::string path_;
  int descriptor_;
  bool regular_ = false;
};

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
      result += escape;
    } else {
      result += c;
    }
  }
  return result + "\"";
}

uint64_t bytes_of(const TensorToWrite& tensor) {
  uint64_t bytes = c10::elementSize(tensor.dtype);
  for (const int64_t size : tensor.shape) bytes *= static_cast<uint64_t>(size);
  return bytes;
}

std::string digits_of(uint32_t checksum) {
  char digits[9];
  std::snprintf(digits, sizeof(digits), "%08x", checksum);
  return digits;
}

std::string header_of(const std::vector<TensorToWrite>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (text.back() != '{') text += ",";
      text += quoted(key) + ":" + quoted(value);
    }
    text += "}";
  }
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    if (text.size() > 1) text += ",";
    text += quoted(tensor.name) + ":{\"dtype\":\"" + dtype_name_of(tensor.dtype) + "\",\"shape\":[";
    for (size_t d = 0; d < tensor.shape.size(); ++d)
      text += (d > 0 ? "," : "") + std::to_string(tensor.shape[d]);
    const uint64_t end = offset + bytes_of(tensor);
    text += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  text += "}";
  while ((text.size() + 8) % 8 != 0) text += ' ';
  return text;
}

}  // namespace

// O_NONBLOCK: opening a pipe would wait for a writer.
TensorFile::TensorFile(const std::string& path)
    : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) {
    if (errno == ENOENT) throw Error(ErrorCode::invalid_file, path + " does not exist");
    fail(path, "opening", errno);
  }
  try {
    struct stat status;
    if (fstat(descriptor_, &status) != 0) fail(path, "reading", errno);
    if (!S_ISREG(status.st_mode)) throw Error(ErrorCode::invalid_file, path + " is not a file");
    const auto size = static_cast<uint64_t>(status.st_size);
    std::vector<uint8_t> bytes(std::min<uint64_t>(size, 8));
    if (const int error = read_fully(descriptor_, bytes.data(), bytes.size(), 0))
      fail(path, "reading", error);
    if (bytes.size() == 8) {
      uint64_t header = 0;
      for (int i = 7; i >= 0; --i) header = header << 8 | bytes[i];
      // parse() itself rejects an absurd size, before that much is allocated.
      if (header <= 100'000'000 && header <= size - 8) {
        bytes.resize(8 + header);
        if (const int error = read_fully(descriptor_, bytes.data() + 8, header, 8))
          fail(path, "reading", error);
      }
    }
    header_ = TensorHeader::parse(bytes.data(), bytes.size(), size, path);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
  for (size_t i = 0; i < header_.entries.size(); ++i) index_[header_.entries[i].name] = i;
}

TensorFile::~TensorFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

const TensorEntry* TensorFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

at::Tensor TensorFile::read(const TensorEntry& entry) const {
  auto result = at::empty(entry.shape, scalar_type_of(entry.dtype));
  read_into(entry, result);
  return result;
}

void TensorFile::read_into(const TensorEntry& entry, at::Tensor& target) const {
  const auto bytes = static_cast<int64_t>(entry.end - entry.begin);
  if (!target.is_cpu() || !target.is_contiguous() ||
      target.scalar_type() != scalar_type_of(entry.dtype)) {
    target.copy_(read(entry));
    return;
  }
  TORCH_CHECK(static_cast<int64_t>(target.nbytes()) == bytes, "[tensor_file] ", entry.name,
              " has another size than its target");
  auto* data = static_cast<uint8_t*>(target.mutable_data_ptr());
  std::atomic<int> error{0};
  const auto parts = checksums_of(data, bytes, [&](int64_t start, size_t size) {
    if (const int failed =
            read_fully(descriptor_, data + start, size, entry.begin + static_cast<uint64_t>(start)))
      error = failed;
  });
  if (error != 0) fail(path_, "reading", error);
  if (entry.checksum && joined(parts, bytes) != *entry.checksum) {
    throw Error(
        ErrorCode::invalid_file,
        path_ + ": the values of " + entry.name +
            " differ from their checksum; the file is damaged: copy or save it again (or it "
            "was changed by a program that kept " +
            kChecksums + " in its metadata: remove that)");
  }
}

void write_tensor_file(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata, const Cancel& cancel) {
  auto with_checksums = metadata;
  with_checksums[kChecksums] = std::string(8 * (tensors.size() + 1), '0');
  const auto header = header_of(tensors, with_checksums);
  // Known when the data is written.
  const auto place = header.find(quoted(kChecksums) + ":\"") + std::strlen(kChecksums) + 4;
  Output output(path);
  uint8_t size[8];
  for (int i = 0; i < 8; ++i) size[i] = static_cast<uint8_t>(header.size() >> (8 * i));
  output.write(size, sizeof(size));
  output.write(header.data(), header.size());
  std::vector<TensorEntry> layout;
  for (const auto& tensor : tensors)
    layout.push_back({tensor.name, dtype_name_of(tensor.dtype), tensor.shape});
  std::string checksums = digits_of(checksum_of_layout(layout));
  for (const auto& tensor : tensors) {
    cancel.check();
    const auto values = tensor.produce();
    TORCH_CHECK(values.is_cpu() && values.is_contiguous() && values.scalar_type() == tensor.dtype &&
                    values.sizes() == at::IntArrayRef(tensor.shape),
                "[tensor_file] ", tensor.name, " does not have the announced dtype or shape");
    if (values.nbytes() > 0) output.write(values.const_data_ptr(), values.nbytes());
    checksums +=
        digits_of(checksum_of(values.const_data_ptr(), static_cast<int64_t>(values.nbytes())));
  }
  output.write_at(sizeof(size) + place, checksums);
  output.finish();
}

}  // namespace posttrain::core
