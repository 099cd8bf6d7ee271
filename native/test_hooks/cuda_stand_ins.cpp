// What libtorch has for CUDA alone, for the CPU, so that tests run the calls of
// native/device/cuda.cpp without a device: each computes in float32 what the real one does, and
// refuses what the real one refuses (ATen/native/transformers/cuda) and what would be read wrongly.
#include <ATen/ATen.h>
#include <torch/headeronly/version.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

namespace posttrain {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;

void check_offsets(const Tensor& offsets, const char* name) {
  TORCH_CHECK(offsets.scalar_type() == at::kInt, name, " must have dtype int32");
  TORCH_CHECK(offsets.dim() == 1 && offsets.is_contiguous(), name, " must be contiguous");
  TORCH_CHECK(offsets.numel() >= 2, name, ": batch size must be positive");
}

int64_t longest_of(const Tensor& offsets) { return at::diff(offsets).max().item<int64_t>(); }

void check_heads(const Tensor& q, const Tensor& k, const Tensor& v) {
  for (const auto* x : {&q, &k, &v}) {
    TORCH_CHECK(x->stride(-1) == 1, "Input tensor must have contiguous last dimension");
    TORCH_CHECK(x->scalar_type() == q.scalar_type(), "query, key and value must have one dtype");
    TORCH_CHECK(x->size(-1) == q.size(-1), "query, key and value must have one head dimension");
  }
  TORCH_CHECK(k.sizes() == v.sizes(), "key and value must have the same shape");
}

void check_flash(const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16,
              "FlashAttention only support fp16 and bf16 data type");
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3, "packed tokens have three dimensions");
  check_heads(q, k, v);
  TORCH_CHECK(q.size(2) % 8 == 0, "head_size must be a multiple of 8");
  TORCH_CHECK(q.size(2) <= 256, "FlashAttention supports head dimension at most 256");
  TORCH_CHECK(q.size(2) <= 192 || q.size(2) > 224,
              "FlashAttention's backward does not support these heads on every device");
  TORCH_CHECK(q.size(1) % k.size(1) == 0,
              "Number of heads in key/value must divide number of heads in query");
}

// Queries and keys [from, to) of one document; queries are the last of its tokens.
struct Document {
  int64_t q_from, q_to, k_from, k_to;
};

std::vector<Document> documents_of(const Tensor& cum_q, const Tensor& cum_k, const Tensor& used) {
  std::vector<Document> documents;
  for (int64_t d = 0; d + 1 < cum_q.numel(); ++d) {
    const auto from = cum_k[d].item<int64_t>(), to = cum_k[d + 1].item<int64_t>();
    const auto seen = used.defined() ? used[d].item<int64_t>() : to - from;
    TORCH_CHECK(seen >= 0 && seen <= to - from, "seqused_k of row ", d, " is ", seen,
                ", beyond its ", to - from, " keys");
    documents.push_back(
        {cum_q[d].item<int64_t>(), cum_q[d + 1].item<int64_t>(), from, from + seen});
  }
  return documents;
}

struct Visible {
  bool causal;
  int64_t left, right;  // -1: all
};

// [H, Q, E] and [K, K', E] of a document in float32; keys once for each query head
Tensor rows_of(const Tensor& x_THE, int64_t from, int64_t to, int64_t heads) {
  const auto x = x_THE.slice(0, from, to).to(at::kFloat).transpose(0, 1);
  return x.size(0) == heads ? x : x.repeat_interleave(heads / x.size(0), 0);
}

Tensor scores_of(const Tensor& q_HQE, const Tensor& k_HKE, double scale, const Visible& visible) {
  const int64_t queries = q_HQE.size(1), keys = k_HKE.size(1);
  const auto q = (at::arange(queries) + (keys - queries)).unsqueeze(1), k = at::arange(keys);
  auto hidden = at::zeros({queries, keys}, at::kBool);
  if (visible.causal) hidden = at::logical_or(hidden, k.gt(q));
  if (visible.left >= 0) hidden = at::logical_or(hidden, k.lt(q - visible.left));
  if (visible.right >= 0) hidden = at::logical_or(hidden, k.gt(q + visible.right));
  return at::matmul(q_HQE, k_HKE.transpose(1, 2))
      .mul_(scale)
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
}

// Writes out [T, H, E] and gives the log-sum-exp [H, Q] of each document to `keep`
template <class Keep>
void attend(const Tensor& q, const Tensor& k, const Tensor& v, Tensor& out,
            const std::vector<Document>& documents, double scale, const Visible& visible,
            Keep keep) {
  const int64_t heads = q.size(1);
  for (size_t i = 0; i < documents.size(); ++i) {
    const auto& d = documents[i];
    const auto scores = scores_of(rows_of(q, d.q_from, d.q_to, heads),
                                  rows_of(k, d.k_from, d.k_to, heads), scale, visible);
    out.slice(0, d.q_from, d.q_to)
        .copy_(at::matmul(at::softmax(scores, -1), rows_of(v, d.k_from, d.k_to, heads))
                   .transpose(0, 1));
    keep(i, at::logsumexp(scores, {-1}));
  }
}

struct Gradients {
  Tensor dq, dk, dv;
};

template <class Lse>
Gradients attend_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                          const Tensor& out, const std::vector<Document>& documents, double scale,
                          const Visible& visible, Lse lse_of) {
  const int64_t heads = q.size(1), group = heads / k.size(1);
  const auto nothing = [](const Tensor& like) {
    return at::full(like.sizes(), std::numeric_limits<double>::quiet_NaN(), like.options());
  };
  Gradients all{nothing(q), nothing(k), nothing(v)};
  const auto ungrouped = [&](const Tensor& d_HKE) {
    return d_HKE.reshape({-1, group, d_HKE.size(1), d_HKE.size(2)}).sum(1).transpose(0, 1);
  };
  for (size_t i = 0; i < documents.size(); ++i) {
    const auto& d = documents[i];
    const auto qd = rows_of(q, d.q_from, d.q_to, heads), kd = rows_of(k, d.k_from, d.k_to, heads),
               vd = rows_of(v, d.k_from, d.k_to, heads),
               dd = rows_of(dout, d.q_from, d.q_to, heads),
               od = rows_of(out, d.q_from, d.q_to, heads);
    const auto p = at::exp(scores_of(qd, kd, scale, visible) - lse_of(i).unsqueeze(-1));
    const auto ds = p * (at::matmul(dd, vd.transpose(1, 2)) - (dd * od).sum(-1, true)) * scale;
    all.dq.slice(0, d.q_from, d.q_to).copy_(at::matmul(ds, kd).transpose(0, 1));
    all.dk.slice(0, d.k_from, d.k_to).copy_(ungrouped(at::matmul(ds.transpose(1, 2), qd)));
    all.dv.slice(0, d.k_from, d.k_to).copy_(ungrouped(at::matmul(p.transpose(1, 2), dd)));
  }
  return all;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& cum_q, const Maybe& cum_k,
    int64_t max_q, int64_t max_k, double dropout, bool causal, bool debug_mask,
    std::optional<double> scale, std::optional<int64_t> left, std::optional<int64_t> right,
    const Maybe& used, const Maybe& alibi
#if TORCH_VERSION_MINOR >= 12
    ,
    const Maybe& block_table, std::optional<int64_t> num_splits
#endif
) {
  check_flash(q, k, v);
  TORCH_CHECK(cum_q.has_value() && cum_k.has_value() && dropout == 0 && !debug_mask);
  check_offsets(*cum_q, "cu_seqlens_q");
  check_offsets(*cum_k, "cu_seqlens_k");
  TORCH_CHECK(cum_q->numel() == cum_k->numel(), "as many rows of keys as of queries");
  TORCH_CHECK(max_q == longest_of(*cum_q), "max_q is ", max_q);
  if (used.has_value()) {
    TORCH_CHECK(used->scalar_type() == at::kInt, "seqused_k must have dtype int32");
    TORCH_CHECK(used->is_contiguous() && used->dim() == 1 && used->numel() == cum_q->numel() - 1,
                "seqused_k must be contiguous, one number a row");
    TORCH_CHECK(max_k == used->max().item<int64_t>(), "max_k is ", max_k);
  } else {
    TORCH_CHECK(max_k == longest_of(*cum_k), "max_k is ", max_k);
  }
  auto out = at::empty(q.sizes(), q.options());
  auto lse_HT = at::empty({q.size(1), q.size(0)}, at::kFloat);
  const auto documents = documents_of(*cum_q, *cum_k, used.value_or(Tensor()));
  attend(q, k, v, out, documents, scale.value(),
         {causal, left.value_or(-1), causal ? 0 : right.value_or(-1)},
         [&](size_t i, const Tensor& lse) {
           lse_HT.slice(1, documents[i].q_from, documents[i].q_to).copy_(lse);
         });
  return {out, lse_HT, at::empty({2}, at::kLong), at::empty({}, at::kLong),
          at::empty({0}, q.options())};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(
    const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
    const Tensor& lse_HT, const Tensor& cum_q, const Tensor& cum_k, int64_t max_q, int64_t max_k,
    double dropout, bool causal, const Tensor& rng_state, const Tensor& unused,
    std::optional<double> scale, std::optional<int64_t> left, std::optional<int64_t> right) {
  check_flash(q, k, v);
  check_offsets(cum_q, "cu_seqlens_q");
  check_offsets(cum_k, "cu_seqlens_k");
  TORCH_CHECK(out.scalar_type() == q.scalar_type() && dout.scalar_type() == q.scalar_type(),
              "query, out and dout must have the same dtype");
  TORCH_CHECK(out.sizes() == q.sizes() && dout.sizes() == q.sizes(), "shapes of out and dout");
  TORCH_CHECK(lse_HT.scalar_type() == at::kFloat && lse_HT.size(0) == q.size(1) &&
                  lse_HT.size(1) == q.size(0),
              "the log-sum-exp is [heads, tokens]");
  TORCH_CHECK(max_q == longest_of(cum_q) && max_k == longest_of(cum_k) && dropout == 0);
  const auto documents = documents_of(cum_q, cum_k, {});
  const auto d = attend_backward(
      dout, q, k, v, out, documents, scale.value(),
      {causal, left.value_or(-1), causal ? 0 : right.value_or(-1)},
      [&](size_t i) { return lse_HT.slice(1, documents[i].q_from, documents[i].q_to); });
  return {d.dq, d.dk, d.dv};
}

void check_efficient(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& cum_q,
                     const Maybe& cum_k, int64_t max_q, int64_t max_k, int64_t mask) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4);
  TORCH_CHECK(q.size(2) == k.size(2), "equal numbers of heads");
  check_heads(q, k, v);
  TORCH_CHECK(q.scalar_type() == at::kFloat, "half precision goes to the flash kernel");
  TORCH_CHECK(q.stride(2) % 4 == 0 && k.stride(2) % 4 == 0, "heads must be aligned");
  TORCH_CHECK(q.stride(1) % 4 == 0 && k.stride(1) % 4 == 0,
              "query is not correctly aligned (strideM)");
  TORCH_CHECK(cum_q.has_value() && cum_k.has_value() && q.size(0) == 1,
              "cu_seqlen only supports batch_size=1");
  check_offsets(*cum_q, "cu_seqlens_q");
  check_offsets(*cum_k, "cu_seqlens_k");
  TORCH_CHECK(max_q == longest_of(*cum_q) && max_k == longest_of(*cum_k), "the longest document");
  TORCH_CHECK(mask == 1, "causal from the top left");
}

// A query sees `window` keys, itself included.
Visible visible_of(std::optional<int64_t> window) {
  return {true, window.has_value() ? *window - 1 : -1, -1};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt> efficient_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& bias, const Maybe& cum_q,
    const Maybe& cum_k, std::optional<c10::SymInt> max_q, std::optional<c10::SymInt> max_k,
    double dropout, int64_t mask, bool compute_lse, std::optional<double> scale,
    const Maybe& seqlen_k, std::optional<int64_t> window) {
  const int64_t longest = max_q.value().expect_int();
  check_efficient(q, k, v, cum_q, cum_k, longest, max_k.value().expect_int(), mask);
  TORCH_CHECK(!bias.has_value() && !seqlen_k.has_value() && dropout == 0);
  auto out = at::empty(q.sizes(), q.options());
  auto rows = out.squeeze(0);
  const auto documents = documents_of(*cum_q, *cum_k, {});
  auto lse_DHQ = at::full({static_cast<int64_t>(documents.size()), q.size(2),
                           compute_lse ? (longest + 31) / 32 * 32 : 0},
                          std::numeric_limits<float>::infinity(), at::kFloat);
  attend(q.squeeze(0), k.squeeze(0), v.squeeze(0), rows, documents, scale.value(),
         visible_of(window), [&](size_t i, const Tensor& lse) {
           if (compute_lse) lse_DHQ[static_cast<int64_t>(i)].slice(1, 0, lse.size(1)).copy_(lse);
         });
  return {out, lse_DHQ, at::empty({}, at::kLong), at::empty({}, at::kLong), longest, longest};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(
    const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& bias,
    const Tensor& out, const Maybe& cum_q, const Maybe& cum_k, c10::SymInt max_q, c10::SymInt max_k,
    const Tensor& lse_DHQ, double dropout, const Tensor& seed, const Tensor& offset, int64_t mask,
    bool bias_gradient, std::optional<double> scale, std::optional<int64_t> splits,
    std::optional<int64_t> window, bool shared_storage) {
  check_efficient(q, k, v, cum_q, cum_k, max_q.expect_int(), max_k.expect_int(), mask);
  TORCH_CHECK(!bias.has_value() && !bias_gradient && dropout == 0);
  TORCH_CHECK(dout.sizes() == q.sizes() && out.sizes() == q.sizes());
  const auto documents = documents_of(*cum_q, *cum_k, {});
  TORCH_CHECK(lse_DHQ.dim() == 3 && lse_DHQ.size(0) == static_cast<int64_t>(documents.size()) &&
                  lse_DHQ.size(2) % 32 == 0,
              "the log-sum-exp is [documents, heads, longest rounded up to 32]");
  const auto d =
      attend_backward(dout.squeeze(0), q.squeeze(0), k.squeeze(0), v.squeeze(0), out.squeeze(0),
                      documents, scale.value(), visible_of(window), [&](size_t i) {
                        const auto& of = documents[i];
                        return lse_DHQ[static_cast<int64_t>(i)].slice(1, 0, of.q_to - of.q_from);
                      });
  return {d.dq.unsqueeze(0), d.dk.unsqueeze(0), d.dv.unsqueeze(0), Tensor()};
}

void check_wide(const Tensor& a, const Tensor& b, at::ScalarType dtype, const Tensor& out) {
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0),
              "shapes cannot be multiplied");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "mat1 and mat2 must have the same dtype");
  TORCH_CHECK(dtype == a.scalar_type() ||
                  (dtype == at::kFloat && at::isReducedFloatingType(a.scalar_type())),
              "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
  TORCH_CHECK(out.scalar_type() == dtype && out.size(0) == a.size(0) && out.size(1) == b.size(1),
              "out_dtype must be the same as the dtype of the provided out tensor");
}

Tensor& wide_mm(const Tensor& a, const Tensor& b, at::ScalarType dtype, Tensor& out) {
  check_wide(a, b, dtype, out);
  return out.copy_(at::mm(a.to(at::kFloat), b.to(at::kFloat)));
}

Tensor& wide_addmm(const Tensor& self, const Tensor& a, const Tensor& b, at::ScalarType dtype,
                   const at::Scalar& beta, const at::Scalar& alpha, Tensor& out) {
  check_wide(a, b, dtype, out);
  TORCH_CHECK(self.scalar_type() == dtype || self.scalar_type() == a.scalar_type(),
              "self dtype must match either out_dtype or mat1 dtype");
  return out.copy_(at::addmm(self.to(at::kFloat), a.to(at::kFloat), b.to(at::kFloat), beta, alpha));
}

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("mm.dtype_out", TORCH_FN(wide_mm));
  m.impl("addmm.dtype_out", TORCH_FN(wide_addmm));
  m.impl("_flash_attention_forward", TORCH_FN(flash_forward));
  m.impl("_flash_attention_backward", TORCH_FN(flash_backward));
  m.impl("_efficient_attention_forward", TORCH_FN(efficient_forward));
  m.impl("_efficient_attention_backward", TORCH_FN(efficient_backward));
}

}  // namespace
}  // namespace posttrain
