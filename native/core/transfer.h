#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace posttrain::core {

// All copies between host and device, so that they can be counted: each one that waits costs a
// device the time in which nothing is queued for it.

/** The tensor on a device; itself where it lies there. Up to 16 MB are copied through pinned memory
 * while the host goes on. */
at::Tensor on_device(const at::Tensor& host, at::Device device);
/** The tensor on the host, contiguous and in that dtype. Waits for the device. */
at::Tensor on_host(const at::Tensor& tensor, at::ScalarType dtype);
/** The value of a tensor of one number. Waits for the device. */
double number_of(const at::Tensor& tensor);

/** A constant tensor, of which each device gets one copy. */
class Constant {
 public:
  explicit Constant(std::function<at::Tensor()> make) : make_(std::move(make)) {}
  at::Tensor on(at::Device device);

 private:
  std::function<at::Tensor()> make_;
  std::mutex mutex_;
  std::map<std::string, at::Tensor> copies_;
};

/** Copies since the process began: those to a device, and those that waited for one. On the CPU,
 * where none is made, they count as well. */
struct Transfers {
  int64_t uploads = 0;
  int64_t waits = 0;
};
Transfers transfers();

}  // namespace posttrain::core
