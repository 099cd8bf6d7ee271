#pragma once
#include <cstdint>

namespace posttrain::core {

/**
 * Replaces torch's CPU allocator. Blocks of 1 MiB and more come from mmap and are kept for reuse,
 * since fresh pages cost more than many operations on them and glibc's heap never gives them back;
 * smaller ones come from malloc. Also fixes glibc's thresholds, which otherwise grow with what is
 * freed.
 *
 * POSTTRAIN_ALLOCATOR=system leaves torch's own allocator; POSTTRAIN_ALLOCATOR_CACHE_MB bounds what
 * is kept (default: a quarter of the machine's memory; never more than was in use at once). Call
 * once, before the first tensor.
 */
void install_allocator();
/** Bytes of tensors now alive on the CPU; 0 with torch's own allocator. */
int64_t allocated_bytes();
/** The most of them at once since the last reset. */
int64_t peak_allocated_bytes();
void reset_peak_allocated_bytes();
/** Bytes kept for reuse. */
int64_t kept_bytes();
/** Gives what is kept back to the system. */
void release_kept_memory();
/** For tests: the allocation after `count` more fails; negative: none. */
void fail_allocation_after(int64_t count);

}  // namespace posttrain::core
