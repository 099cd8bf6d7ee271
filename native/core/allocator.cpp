#include "core/allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace posttrain::core {
namespace {

constexpr size_t kLarge = size_t{1} << 20;
constexpr size_t kPage = size_t{1} << 12;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kKeptAtMost = int64_t{1} << 30;

std::atomic<int64_t> in_use{0};
std::atomic<int64_t> failing_after{-1};

class Cache {
 public:
  void* take(size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      // A block up to an eighth larger serves; more would waste what others need.
      const auto found = free_.lower_bound(bytes);
      if (found != free_.end() && found->first <= bytes + bytes / 8) {
        void* block = found->second;
        sizes_[block] = found->first;
        kept_ -= static_cast<int64_t>(found->first);
        free_.erase(found);
        return block;
      }
    }
    void* block = map(bytes);
    if (block == nullptr) {
      drop_all();
      block = map(bytes);
    }
    if (block == nullptr) return nullptr;
    const std::lock_guard lock(mutex_);
    sizes_[block] = bytes;
    return block;
  }

  void give(void* block) {
    const std::lock_guard lock(mutex_);
    const size_t bytes = sizes_.at(block);
    sizes_.erase(block);
    free_.emplace(bytes, block);
    kept_ += static_cast<int64_t>(bytes);
    const int64_t limit = std::min(kKeptAtMost, std::max<int64_t>(in_use.load(), int64_t{64} << 20));
    while (kept_ > limit) {
      const auto largest = std::prev(free_.end());
      kept_ -= static_cast<int64_t>(largest->first);
      munmap(largest->second, largest->first);
      free_.erase(largest);
    }
  }

 private:
  static void* map(size_t bytes) {
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return nullptr;
    if (bytes >= kHugePage) madvise(block, bytes, MADV_HUGEPAGE);
    return block;
  }

  void drop_all() {
    const std::lock_guard lock(mutex_);
    for (const auto& [bytes, block] : free_) munmap(block, bytes);
    free_.clear();
    kept_ = 0;
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::map<void*, size_t> sizes_;
  int64_t kept_ = 0;
};

Cache& cache() {
  static auto* instance = new Cache();
  return *instance;
}

// What a block's release needs: its size, kept as the context of the DataPtr.
struct Block {
  void* data;
  size_t bytes;
};

void release(void* context) {
  const auto* block = static_cast<Block*>(context);
  in_use -= static_cast<int64_t>(block->bytes);
  if (block->bytes >= kLarge) {
    cache().give(block->data);
  } else {
    std::free(block->data);
  }
  delete block;
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release_nothing, cpu};
    const int64_t left = failing_after.load();
    if (left >= 0 && failing_after.fetch_sub(1) == 0) fail(bytes);
    const size_t rounded = bytes >= kLarge ? (bytes + kPage - 1) / kPage * kPage : bytes;
    void* data = nullptr;
    if (rounded >= kLarge) {
      data = cache().take(rounded);
    } else if (posix_memalign(&data, 64, rounded) != 0) {
      data = nullptr;
    }
    if (data == nullptr) fail(bytes);
    in_use += static_cast<int64_t>(rounded);
    return {data, new Block{data, rounded}, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* target, const void* source, std::size_t count) const override { std::memcpy(target, source, count); }

 private:
  static void release_nothing(void*) {}
  [[noreturn]] static void fail(size_t bytes) {
    TORCH_CHECK_WITH(OutOfMemoryError, false, "not enough memory: ", bytes, " bytes could not be allocated");
    std::abort();
  }
};

}  // namespace

void install_allocator() {
  static auto* allocator = new Allocator();
  c10::SetCPUAllocator(allocator, 1);
}

int64_t allocated_bytes() { return in_use; }

void fail_allocation_after(int64_t count) { failing_after = count; }

}  // namespace posttrain::core
