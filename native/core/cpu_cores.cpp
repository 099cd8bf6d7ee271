#include "core/cpu_cores.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace posttrain::core {
namespace {

int64_t physical_cores() {
  const int64_t logical = std::max<int64_t>(1, std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return logical;
  std::set<std::string> cores;  // the siblings of a core have the same list
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    std::string siblings;
    if (!(file >> siblings)) return std::max(1, CPU_COUNT(&allowed));
    cores.insert(siblings);
  }
  return std::max<int64_t>(1, static_cast<int64_t>(cores.size()));
#else
  return logical;
#endif
}

/** CPUs' worth of time that the control group grants (cgroup v2), 0 without a limit. */
int64_t quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string limit;
  double period = 0;
  if (!(file >> limit >> period) || limit == "max" || period <= 0) return 0;
  return std::max<int64_t>(1, static_cast<int64_t>(std::strtod(limit.c_str(), nullptr) / period));
}

}  // namespace

int64_t default_threads() {
  // May be a list for nested regions: the first number is the outermost.
  if (const char* text = std::getenv("OMP_NUM_THREADS"); text != nullptr) {
    const int64_t threads = std::strtol(text, nullptr, 10);
    if (threads >= 1 && threads <= 4096) return threads;
  }
  const int64_t cores = physical_cores(), granted = quota();
  return granted > 0 ? std::min(cores, granted) : cores;
}

}  // namespace posttrain::core
