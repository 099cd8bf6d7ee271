#pragma once
#include <cstdint>

namespace posttrain::core {

/**
 * Replaces torch's CPU allocator: blocks of 1 MiB and more come from mmap and are kept for reuse (at most 1 GiB, and no
 * more than is in use), since fresh pages cost more than many operations on them and glibc's heap never gives them back.
 * Call once, before the first tensor.
 */
void install_allocator();
/** Bytes of tensors now alive on the CPU. */
int64_t allocated_bytes();
/** For tests: the allocation after `count` more fails; negative: none. */
void fail_allocation_after(int64_t count);

}  // namespace posttrain::core
