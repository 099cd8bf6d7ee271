#include "core/allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <string_view>
#include <unordered_map>

#ifdef __APPLE__
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

namespace posttrain::core {
namespace {

constexpr size_t kLarge = size_t{1} << 20;
constexpr size_t kPage = size_t{1} << 12;

std::atomic<int64_t> in_use{0};
/** Peak of in_use since the last reset. */
std::atomic<int64_t> highest{0};
std::atomic<int64_t> failing_after{-1};
std::atomic<bool> poisoning{false};

int64_t default_limit() {
  if (const char* text = std::getenv("POSTTRAIN_ALLOCATOR_CACHE_MB"); text != nullptr) {
    return std::strtoll(text, nullptr, 10) << 20;
  }
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) / 4 * sysconf(_SC_PAGESIZE);
}

/** Bytes in use now. */
int64_t count(int64_t bytes) {
  const int64_t now = in_use += bytes;
  int64_t before = highest;
  while (before < now && !highest.compare_exchange_weak(before, now)) {
  }
  return now;
}

/** Rounded up to an eighth of its power of two, so that nearly equal shapes reuse each
 * other's blocks. */
size_t rounded(size_t bytes) {
  const size_t step = std::max(kPage, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

/** Mapped blocks, in use and kept. */
class Blocks {
 public:
  void* take(size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      // Reuses a block at most an eighth larger; more would waste memory.
      const auto found = free_.lower_bound(bytes);
      if (found != free_.end() && found->first <= bytes + bytes / 8) {
        auto node = free_.extract(found);
        sizes_[node.mapped()] = node.key();
        kept_ -= static_cast<int64_t>(node.key());
        peak_ = std::max(peak_, count(static_cast<int64_t>(node.key())));
        return node.mapped();
      }
    }
    void* block = map(bytes);
    if (block == nullptr) {
      release_kept();
      block = map(bytes);
    }
    if (block == nullptr) return nullptr;
    const std::lock_guard lock(mutex_);
    sizes_[block] = bytes;
    peak_ = std::max(peak_, count(static_cast<int64_t>(bytes)));
    return block;
  }

  /** False when the block is not one of these. */
  bool give(void* block) {
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(block);
    if (found == sizes_.end()) return false;
    const size_t bytes = found->second;
    sizes_.erase(found);
    in_use -= static_cast<int64_t>(bytes);
    free_.emplace(bytes, block);
    kept_ += static_cast<int64_t>(bytes);
    while (kept_ > std::min(limit_, peak_)) unmap(std::prev(free_.end()));
    return true;
  }

  void enlarge_pages([[maybe_unused]] const void* block) {
#ifdef MADV_HUGEPAGE
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(const_cast<void*>(block));
    if (found != sizes_.end()) madvise(found->first, found->second, MADV_HUGEPAGE);
#endif
  }

  void release_kept() {
    const std::lock_guard lock(mutex_);
    while (!free_.empty()) unmap(free_.begin());
  }

  int64_t kept() {
    const std::lock_guard lock(mutex_);
    return kept_;
  }

 private:
  using Free = std::multimap<size_t, void*>;

  static void* map(size_t bytes) {
    // No huge pages are requested: they made a first step 0.3 s slower, and later steps no
    // faster.
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? nullptr : block;
  }

  void unmap(Free::iterator entry) {
    kept_ -= static_cast<int64_t>(entry->first);
    munmap(entry->second, entry->first);
    free_.erase(entry);
  }

  std::mutex mutex_;
  Free free_;
  std::unordered_map<void*, size_t> sizes_;
  int64_t kept_ = 0;
  int64_t peak_ = 0;
  const int64_t limit_ = default_limit();
};

// Never destroyed: tensors in static storage are freed after this library's own destructors.
Blocks& blocks() {
  static auto* instance = new Blocks();
  return *instance;
}

int64_t heap_size(void* data) {
#ifdef __APPLE__
  return static_cast<int64_t>(malloc_size(data));
#else
  return static_cast<int64_t>(malloc_usable_size(data));
#endif
}

// The pointer is its own context, so that raw_deallocate works; only one that starts a page can be
// a mapped block.
void release(void* data) {
  if (data == nullptr) return;
  if (reinterpret_cast<uintptr_t>(data) % kPage == 0 && blocks().give(data)) return;
  in_use -= heap_size(data);
  std::free(data);
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    if (failing_after.load(std::memory_order_relaxed) >= 0 && failing_after.fetch_sub(1) == 0)
      fail(bytes);
    // No machine has that much, and rounding up would overflow.
    if (bytes > SIZE_MAX / 2) fail(bytes);
    void* data = nullptr;
    if (bytes >= kLarge) {
      data = blocks().take(rounded(bytes));
    } else if (posix_memalign(&data, 64, bytes) == 0) {
      count(heap_size(data));
    } else {
      data = nullptr;
    }
    if (data == nullptr) fail(bytes);
    if (poisoning.load(std::memory_order_relaxed)) std::memset(data, 0xff, bytes);
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* target, const void* source, std::size_t count) const override {
    std::memcpy(target, source, count);
  }

 private:
  [[noreturn]] static void fail(size_t bytes) {
    TORCH_CHECK_WITH(OutOfMemoryError, false, "not enough memory: ", bytes,
                     " bytes could not be allocated");
    std::abort();
  }
};

}  // namespace

void install_allocator() {
  const char* choice = std::getenv("POSTTRAIN_ALLOCATOR");
  if (choice != nullptr && std::string_view(choice) == "system") return;
#ifdef M_MMAP_THRESHOLD
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
#endif
  static auto* allocator = new Allocator();
  c10::SetCPUAllocator(allocator, 1);
}

void use_large_pages(const void* block) { blocks().enlarge_pages(block); }

int64_t allocated_bytes() { return in_use; }

int64_t peak_allocated_bytes() { return highest; }

void reset_peak_allocated_bytes() { highest = in_use.load(); }

int64_t kept_bytes() { return blocks().kept(); }

void release_kept_memory() { blocks().release_kept(); }

void fail_allocation_after(int64_t count) { failing_after = count; }

void poison_allocations(bool poisoned) { poisoning = poisoned; }

}  // namespace posttrain::core
