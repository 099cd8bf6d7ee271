#pragma once
#include <cstdint>

namespace posttrain::core {

/**
 * Replaces torch's CPU allocator. Blocks of 1 MiB and more come from mmap and are kept for reuse,
 * since fresh pages cost more than many operations on them and glibc's heap never gives them back;
 * smaller ones come from malloc. Also fixes glibc's thresholds, which otherwise grow as blocks
 * are freed.
 *
 * POSTTRAIN_ALLOCATOR=system leaves torch's own allocator; POSTTRAIN_ALLOCATOR_CACHE_MB caps the
 * kept blocks (default: a quarter of the machine's memory; never more than the peak in use). Call
 * once, before the first tensor.
 */
void install_allocator();
/**
 * Asks the system for large pages (2 MB) under a block of this allocator that nothing was written
 * to yet: weights that are read from end to end are read 1.3 to 1.7 times as fast then, and written
 * faster for the first time. Blocks that were made one after the other share pages; other memory is
 * left as it is.
 */
void use_large_pages(const void* block);
/** Bytes of live CPU tensors; 0 with torch's own allocator. */
int64_t allocated_bytes();
/** Peak of these bytes since the last reset. */
int64_t peak_allocated_bytes();
void reset_peak_allocated_bytes();
/** Bytes kept for reuse. */
int64_t kept_bytes();
/** Returns the kept blocks to the system. */
void release_kept_memory();
/** For tests: makes the allocation after `count` more fail; negative: none. */
void fail_allocation_after(int64_t count);
/** For tests: fills new blocks with ones, which are NaN in every floating-point dtype, so that a
 * result made of memory that nothing wrote shows. */
void poison_allocations(bool poisoned);

}  // namespace posttrain::core
