#pragma once

namespace posttrain::emulator {

/** As long as it lives new tensors on the CPU hold NaN and lie between zones that nothing may
 * write to. */
class GuardedMemory {
 public:
  GuardedMemory();
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  /** Whether no zone has been written to, of tensors that are gone too. */
  static bool holds();
};

}  // namespace posttrain::emulator
