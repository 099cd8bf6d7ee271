#include "test_hooks/guarded_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace posttrain::emulator {
namespace {

constexpr size_t kZone = 256;
constexpr char kPattern = 0x5a;

std::mutex mutex;
std::map<char*, size_t> live;
std::atomic<bool> whole{true};

void check(const char* data, size_t bytes) {
  const auto kept = [](char byte) { return byte == kPattern; };
  if (!std::all_of(data - kZone, data, kept) ||
      !std::all_of(data + bytes, data + bytes + kZone, kept))
    whole = false;
}

void release(void* pointer) {
  auto* data = static_cast<char*>(pointer);
  if (data == nullptr) return;
  const std::lock_guard lock(mutex);
  const auto found = live.find(data);
  check(data, found->second);
  live.erase(found);
  std::free(data - kZone);
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* block = nullptr;
    if (posix_memalign(&block, 64, bytes + 2 * kZone) != 0) std::abort();
    auto* data = static_cast<char*>(block) + kZone;
    std::memset(block, kPattern, bytes + 2 * kZone);
    std::memset(data, 0xff, bytes);
    const std::lock_guard lock(mutex);
    live[data] = bytes;
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* target, const void* source, std::size_t count) const override {
    std::memcpy(target, source, count);
  }
};

c10::Allocator* before = nullptr;

}  // namespace

GuardedMemory::GuardedMemory() {
  static Allocator allocator;
  before = c10::GetCPUAllocator();
  whole = true;
  c10::SetCPUAllocator(&allocator, 1);
}

GuardedMemory::~GuardedMemory() { c10::SetCPUAllocator(before, 1); }

bool GuardedMemory::holds() {
  const std::lock_guard lock(mutex);
  for (const auto& [data, bytes] : live) check(data, bytes);
  return whole;
}

}  // namespace posttrain::emulator
