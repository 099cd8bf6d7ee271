#include "core/matmul.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

#include "core/few_tokens.h"
#include "core/transfer.h"

// Exported by libtorch_cpu since 1.10, but its header is not shipped:
// result = beta * result + alpha * a b
namespace at::native {
TORCH_API void mkldnn_matmul(const Tensor& a, const Tensor& b, const Tensor& result, float beta,
                             float alpha);
}

namespace posttrain::core {
namespace {

constexpr int64_t kBlocks[] = {256, 64, 16, 8};
constexpr int64_t kSmallestBlock = 8;
/** Tokens up to which reading the weights takes as long as computing with them. */
constexpr int64_t kFewTokens = 64;
/** Weights of a thread at least, in rows of 4. */
constexpr int64_t kFewGrain = int64_t{1} << 16;

bool amd_with_avx512() {
#if defined(__x86_64__) && defined(__GNUC__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
  const bool amd = b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
  return amd && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
#else
  return false;
#endif
}

/** POSTTRAIN_MATMUL; empty where the choice is ours. */
std::string_view asked_for() {
  const char* asked = std::getenv("POSTTRAIN_MATMUL");
  const std::string_view name = asked == nullptr ? "" : asked;
  return name == "auto" ? "" : name;
}

bool prefers_onednn() {
  static const bool answer = [] {
    const auto name = asked_for();
    if (name.empty()) return amd_with_avx512() && at::hasMKLDNN();
    TORCH_CHECK_VALUE(name == "torch" || name == "onednn",
                      "POSTTRAIN_MATMUL must be auto, torch or onednn, got ", name);
    TORCH_CHECK_VALUE(name == "torch" || at::hasMKLDNN(),
                      "POSTTRAIN_MATMUL is onednn, but this libtorch is built without it");
    return name == "onednn";
  }();
  return answer;
}

// Products with a short side gain from oneDNN only with many tokens.
bool onednn_serves(const at::Tensor& x, int64_t one_side, int64_t other_side) {
  if (!x.is_cpu() || x.scalar_type() != at::kFloat) return false;
  const int64_t shorter = std::min(one_side, other_side), longer = std::max(one_side, other_side);
  const bool worth = shorter >= 64 || (shorter >= 16 && longer >= 64 && x.size(0) >= 64);
  return worth && prefers_onednn();
}

// Calls run(from, size) for blocks that cover [0, count) except fewer than 8 at the end; returns
// where those begin
template <class Run>
int64_t in_blocks(int64_t count, Run run) {
  int64_t from = 0;
  for (const int64_t block : kBlocks) {
    for (; count - from >= block; from += block) run(from, block);
  }
  return from;
}

// Rows [from, end) padded with rows of zeros
at::Tensor last_block(const at::Tensor& x, int64_t from) {
  auto padded = at::zeros({kSmallestBlock, x.size(1)}, x.options());
  padded.narrow(0, 0, x.size(0) - from).copy_(x.narrow(0, from, x.size(0) - from));
  return padded;
}

// out = beta out + scale x w
void multiply_in_blocks(const at::Tensor& out_TN, const at::Tensor& x_TK, const at::Tensor& w_KN,
                        float beta, float scale) {
  const int64_t count = x_TK.size(0);
  const int64_t end = in_blocks(count, [&](int64_t from, int64_t size) {
    at::native::mkldnn_matmul(x_TK.narrow(0, from, size), w_KN, out_TN.narrow(0, from, size), beta,
                              scale);
  });
  if (end == count) return;
  const auto out = at::empty({kSmallestBlock, w_KN.size(1)}, out_TN.options());
  at::native::mkldnn_matmul(last_block(x_TK, end), w_KN, out, 0, scale);
  auto rest = out_TN.narrow(0, end, count - end);
  const auto last = out.narrow(0, 0, count - end);
  if (beta == 0) {
    rest.copy_(last);
  } else {
    rest.add_(last);
  }
}

/** Products of half factors whose result is float32. */
struct WideProducts {
  bool multiply = false;
  bool add = false;
};

// Runs a product of ones, 16 by 16, that should leave `expected` everywhere
bool gives(double expected, const at::TensorOptions& options,
           void (*run)(at::Tensor& out, const at::Tensor& ones)) {
  try {
    const auto ones = at::ones({16, 16}, options);
    auto out = at::ones({16, 16}, options.dtype(at::kFloat));
    run(out, ones);
    return number_of(out.eq(expected).all()) == 1;
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error&) {
    return false;
  }
}

// Older versions of libtorch refuse a float32 summand, and the CPU has neither.
WideProducts probed(const at::Tensor& x) {
  const auto served = [&](const char* name) {
    const auto op = c10::Dispatcher::singleton().findSchema({name, "dtype_out"});
    return op.has_value() && op->hasKernelForDispatchKey(x.is_cuda() ? c10::DispatchKey::CUDA
                                                                     : c10::DispatchKey::CPU);
  };
  WideProducts found;
  found.multiply =
      served("aten::mm") && gives(16, x.options(), [](at::Tensor& out, const at::Tensor& ones) {
        at::mm_out(out, ones, ones, at::kFloat);
      });
  found.add =
      served("aten::addmm") && gives(17, x.options(), [](at::Tensor& out, const at::Tensor& ones) {
        at::addmm_out(out, out, ones, ones, at::kFloat);
      });
  return found;
}

const WideProducts& wide_products(const at::Tensor& x) {
  static std::mutex mutex;
  static std::map<std::string, WideProducts> known;
  const std::lock_guard lock(mutex);
  const auto key = x.device().str() + c10::toString(x.scalar_type());
  const auto found = known.find(key);
  return found != known.end() ? found->second : known.emplace(key, probed(x)).first->second;
}

bool is_wide(const at::Tensor& out, const at::Tensor& x) {
  return out.scalar_type() == at::kFloat && at::isReducedFloatingType(x.scalar_type());
}

}  // namespace

void multiply(at::Tensor& out_TN, const at::Tensor& x_TK, const at::Tensor& w_KN) {
  if (onednn_serves(x_TK, w_KN.size(0), w_KN.size(1))) {
    multiply_in_blocks(out_TN, x_TK, w_KN, 0, 1);
  } else if (out_TN.scalar_type() == x_TK.scalar_type()) {
    at::mm_out(out_TN, x_TK, w_KN);
  } else if (is_wide(out_TN, x_TK) && wide_products(x_TK).multiply) {
    at::mm_out(out_TN, x_TK, w_KN, at::kFloat);
  } else {
    out_TN.copy_(at::mm(x_TK, w_KN));
  }
}

at::Tensor product(const at::Tensor& x_TK, const at::Tensor& w_KN, const at::Tensor& bias_N) {
  if (!onednn_serves(x_TK, w_KN.size(0), w_KN.size(1)))
    return bias_N.defined() ? at::addmm(bias_N, x_TK, w_KN) : at::mm(x_TK, w_KN);
  auto out = at::empty({x_TK.size(0), w_KN.size(1)}, x_TK.options());
  multiply_in_blocks(out, x_TK, w_KN, 0, 1);
  return bias_N.defined() ? out.add_(bias_N) : out;
}

at::Tensor product_of_few(const at::Tensor& x_TK, const at::Tensor& w_NK,
                          const at::Tensor& bias_N) {
  static const bool ours = asked_for().empty();
  const int64_t tokens = x_TK.size(0), rows = w_NK.size(0), columns = w_NK.size(1);
  if (!ours || tokens > kFewTokens || !x_TK.is_cpu() || x_TK.scalar_type() != at::kFloat ||
      !w_NK.is_contiguous())
    return product(x_TK, w_NK.t(), bias_N);
  const auto x = x_TK.contiguous();
  auto out = at::empty({tokens, rows}, x.options());
  const float *xp = x.const_data_ptr<float>(), *wp = w_NK.const_data_ptr<float>();
  float* op = out.mutable_data_ptr<float>();
  const int64_t fours = (rows + 3) / 4, grain = std::max<int64_t>(1, kFewGrain / (4 * columns));
  at::parallel_for(0, fours, grain, [&](int64_t begin, int64_t end) {
    const int64_t from = 4 * begin, count = std::min(4 * end, rows) - from;
    multiply_few(wp + from * columns, columns, count, columns, xp, tokens, op + from, rows);
  });
  return bias_N.defined() ? out.add_(bias_N) : out;
}

void add_product(at::Tensor& out_TN, const at::Tensor& x_TK, const at::Tensor& w_KN, double scale) {
  if (is_wide(out_TN, x_TK) && wide_products(x_TK).add) {
    at::addmm_out(out_TN, out_TN, x_TK, w_KN, at::kFloat, 1, scale);
  } else if (out_TN.scalar_type() != x_TK.scalar_type()) {
    out_TN.add_(at::mm(x_TK, w_KN), scale);
  } else if (onednn_serves(x_TK, w_KN.size(0), w_KN.size(1))) {
    multiply_in_blocks(out_TN, x_TK, w_KN, 1, static_cast<float>(scale));
  } else {
    out_TN.addmm_(x_TK, w_KN, 1, scale);
  }
}

void add_transposed_product(at::Tensor& out_MN, const at::Tensor& a_TM, const at::Tensor& b_TN,
                            double scale) {
  if (is_wide(out_MN, a_TM) && wide_products(a_TM).add) {
    at::addmm_out(out_MN, out_MN, a_TM.t(), b_TN, at::kFloat, 1, scale);
    return;
  }
  if (out_MN.scalar_type() != a_TM.scalar_type()) {
    out_MN.add_(at::mm(a_TM.t(), b_TN), scale);
    return;
  }
  if (!onednn_serves(a_TM, a_TM.size(1), b_TN.size(1))) {
    out_MN.addmm_(a_TM.t(), b_TN, 1, scale);
    return;
  }
  const int64_t count = a_TM.size(0);
  // Columns of a wider matrix are copied in their layout: oneDNN would copy them transposed.
  const auto add = [&](const at::Tensor& a, const at::Tensor& b) {
    at::native::mkldnn_matmul(a.contiguous().t(), b.contiguous(), out_MN, 1,
                              static_cast<float>(scale));
  };
  const int64_t end = in_blocks(count, [&](int64_t from, int64_t size) {
    add(a_TM.narrow(0, from, size), b_TN.narrow(0, from, size));
  });
  if (end < count) add(last_block(a_TM, end), last_block(b_TN, end));
}

int64_t fast_stride(int64_t columns) {
  return prefers_onednn() ? columns : (columns + 63) / 64 * 64;
}

}  // namespace posttrain::core
