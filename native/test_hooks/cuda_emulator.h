#pragma once

namespace posttrain::emulator {

/** Answers of the driver of tests; 0: nothing fails. */
struct Faults {
  /** Error of the next launch. */
  int launch = 0;
  /** Error of a fatbin that is loaded. */
  int fatbin = 0;
  bool no_compiler = false;
};

Faults& faults();

/** Puts faults between our launches and the machine's driver, or the emulator where there is no
 * device. */
void install_driver(bool has_device);

}  // namespace posttrain::emulator
