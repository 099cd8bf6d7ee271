#pragma once
#include <cstdint>

namespace posttrain::core {

/**
 * Default number of torch's threads: OMP_NUM_THREADS, else the physical cores that this
 * process may run on (CPU affinity), but not more than the CPU quota of its control group.
 * Hyperthreads share one multiplier: a second thread on a core only adds overhead.
 */
int64_t default_threads();

}  // namespace posttrain::core
