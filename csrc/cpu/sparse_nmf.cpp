// How lines are shared out: chunks of about as many stored entries, cut by the matrix alone and added up in their
// order, so that the bits do not depend on the number of threads.
#include "nmfuse/sparse_nmf.h"

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/sparse_nmf_isa.h"
#include "nmfuse/error.h"
#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

using std::int64_t;

static_assert(kSparseRankBlock == kRankBlock, "the grams are those of nmf");

constexpr int64_t kMaxChunks = 32, kLeastEntries = 1 << 14;  // of a chunk
constexpr int64_t kLeastSumsBytes = 4 << 20;  // all chunks' sums together may take so much, or a tenth of X
constexpr int64_t kBlockRows = 512;           // of a factor

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t pad(int64_t rank) { return ceil_div(rank, kSparseRankBlock) * kSparseRankBlock; }

template <class T>
int64_t chunks_of(const sparse_lines<T>& X, int64_t rank) {
  const int64_t entries = X.starts[X.lines];
  const int64_t share = X.width * pad(rank) * static_cast<int64_t>(sizeof(T));
  const int64_t held = std::max(kLeastSumsBytes, entries * static_cast<int64_t>(sizeof(T) + 4) / 10);
  return std::max<int64_t>(1, std::min({kMaxChunks, ceil_div(entries, kLeastEntries), held / share, X.lines}));
}

template <class T>
class sparse_run {
 public:
  sparse_run(const sparse_lines<T>& X, T* A, T* B, int64_t rank, const nmf_options& options, workspace_view workspace)
      : X_(X),
        A_(A),
        B_(B),
        rank_(rank),
        stride_(pad(rank)),
        kullback_leibler_(options.beta == 1.0),
        options_(options),
        chunks_(chunks_of(X, rank)),
        numerators_(static_cast<T*>(workspace.data)),
        kernels_(dispatch_isa([](auto which) { return get_sparse_kernels<which(), T>(); })),
        measure_(dispatch_isa([this](auto which) {
                   return get_nmf_kernels<which(), T, T>(kullback_leibler_ ? nmf_kind::kullback_leibler
                                                                           : nmf_kind::frobenius);
                 }).measure_W) {
    require(options.beta == 1.0 || options.beta == 2.0, "beta: a sparse matrix needs 2 or 1");
    require(!options.weighted, "weights: not of a sparse matrix");
    require(!(options.hals && kullback_leibler_), "hals: only with beta = 2");
    require(workspace.bytes >= chunks_ * X.width * stride_ * static_cast<int64_t>(sizeof(T)),
            "workspace: too small; ask sparse_nmf_workspace");
    const int64_t entries = X.starts[X.lines];
    for (int64_t c = 0; c <= chunks_; ++c) {
      bounds_.push_back(std::lower_bound(X.starts, X.starts + X.lines, c * entries / chunks_) - X.starts);
    }
    bounds_.front() = 0;
    bounds_.back() = X.lines;
    for (int64_t i = 0; i < X.lines; ++i) longest_ = std::max(longest_, X.starts[i + 1] - X.starts[i]);
  }

  void iterate(int iterations) {
    std::vector<T> measures_B = narrow(measure(B_, X_.width));
    for (int n = 0; n < iterations; ++n) {
      parallel_for(chunks_, [&](int64_t c) {
        sparse_chunk<T> chunk = chunk_of(c);
        std::vector<T> scratch(static_cast<std::size_t>(3 * kSparseRows * stride_ + longest_));
        chunk.scratch = scratch.data();
        chunk.measures = measures_B.data();
        if (options_.update_W) {
          chunk.numerators = numerators_ + c * X_.width * stride_;
          std::fill_n(chunk.numerators, X_.width * stride_, T(0));
        }
        kernels_.update_lines(chunk);
      });
      if (!options_.update_W) continue;
      const std::vector<T> measures_A = narrow(measure(A_, X_.lines));
      parallel_for(ceil_div(X_.width, kBlockRows), [&](int64_t block) {
        const int64_t first = block * kBlockRows, count = std::min(kBlockRows, X_.width - first);
        add_chunks(first * stride_, count * stride_);
        std::vector<T> scratch(static_cast<std::size_t>(2 * kSparseRows * stride_));
        kernels_.update_rows({B_ + first * stride_, numerators_ + first * stride_, count, rank_, stride_,
                              kullback_leibler_, options_.inner_iter, rule(options_.l1_W, options_.l2_W),
                              measures_A.data(), scratch.data()});
      });
      measures_B = narrow(measure(B_, X_.width));
    }
  }

  double objective() {
    std::vector<double> shares(static_cast<std::size_t>(chunks_));
    parallel_for(chunks_, [&](int64_t c) { shares[static_cast<std::size_t>(c)] = kernels_.divergence(chunk_of(c)); });
    double total = 0;
    for (const double share : shares) total += share;
    const std::vector<double> of_A = measure(A_, X_.lines), of_B = measure(B_, X_.width);
    for (std::size_t e = 0; e < of_A.size(); ++e) total += (kullback_leibler_ ? 1.0 : 0.5) * of_A[e] * of_B[e];
    return total + penalty(A_, X_.lines, options_.l1_H, options_.l2_H) +
           penalty(B_, X_.width, options_.l1_W, options_.l2_W);
  }

 private:
  nmf_rule rule(double l1, double l2) const { return {l1, l2, nmf_exponent(options_.beta, l2), options_.hals}; }

  sparse_chunk<T> chunk_of(int64_t c) const {
    sparse_chunk<T> chunk;
    chunk.X = X_;
    chunk.first = bounds_[static_cast<std::size_t>(c)];
    chunk.last = bounds_[static_cast<std::size_t>(c) + 1];
    chunk.A = A_;
    chunk.B = B_;
    chunk.rank = rank_;
    chunk.padded_rank = stride_;
    chunk.kullback_leibler = kullback_leibler_;
    chunk.inner_iter = options_.inner_iter;
    chunk.rule = rule(options_.l1_H, options_.l2_H);
    return chunk;
  }

  // The gram of a factor (rank, padded_rank), or its column sums (padded_rank).
  std::vector<double> measure(const T* factor, int64_t rows) const {
    const std::size_t size = static_cast<std::size_t>(kullback_leibler_ ? stride_ : rank_ * stride_);
    const int64_t block_rows = std::max(kBlockRows, ceil_div(rows, 64)), blocks = ceil_div(rows, block_rows);
    std::vector<double> parts(size * static_cast<std::size_t>(blocks)), total(size);
    parallel_for(blocks, [&](int64_t i) {
      measure_(factor + i * block_rows * stride_, std::min(block_rows, rows - i * block_rows), rank_, stride_,
               parts.data() + size * static_cast<std::size_t>(i));
    });
    for (std::size_t i = 0; i < parts.size(); ++i) total[i % size] += parts[i];
    return total;
  }

  static std::vector<T> narrow(const std::vector<double>& x) { return std::vector<T>(x.begin(), x.end()); }

  // Entries [first, first + count) of the first chunk's numerators become the sum of all chunks'.
  void add_chunks(int64_t first, int64_t count) const {
    for (int64_t e = first; e < first + count; ++e) {
      double sum = 0;
      for (int64_t c = 0; c < chunks_; ++c) sum += static_cast<double>(numerators_[c * X_.width * stride_ + e]);
      numerators_[e] = static_cast<T>(sum);
    }
  }

  double penalty(const T* factor, int64_t rows, double l1, double l2) const {
    if (l1 == 0 && l2 == 0) return 0;
    double sum = 0, squares = 0;
    for (int64_t e = 0; e < rows * stride_; ++e) {
      const double x = static_cast<double>(factor[e]);
      sum += x;
      squares += x * x;
    }
    return l1 * sum + l2 / 2 * squares;
  }

  const sparse_lines<T> X_;
  T *const A_, *const B_;
  const int64_t rank_, stride_;
  const bool kullback_leibler_;
  const nmf_options options_;
  const int64_t chunks_;
  T* const numerators_;  // (chunks, width, padded_rank)
  const sparse_kernels<T> kernels_;
  void (*const measure_)(const T*, int64_t, int64_t, int64_t, double*);
  std::vector<int64_t> bounds_;  // of the chunks, in lines
  int64_t longest_ = 0;          // entries of a line
};

}  // namespace

template <class T>
int64_t sparse_nmf_workspace(const sparse_lines<T>& X, int64_t rank) {
  return chunks_of(X, rank) * X.width * pad(rank) * static_cast<int64_t>(sizeof(T));
}

template <class T>
void sparse_nmf_update(const sparse_lines<T>& X, T* A, T* B, int64_t rank, const nmf_options& options, int iterations,
                       workspace_view workspace) {
  sparse_run<T>(X, A, B, rank, options, workspace).iterate(iterations);
}

template <class T>
double sparse_nmf_objective(const sparse_lines<T>& X, const T* A, const T* B, int64_t rank, const nmf_options& options,
                            workspace_view workspace) {
  return sparse_run<T>(X, const_cast<T*>(A), const_cast<T*>(B), rank, options, workspace).objective();
}

template int64_t sparse_nmf_workspace(const sparse_lines<float>&, int64_t);
template int64_t sparse_nmf_workspace(const sparse_lines<double>&, int64_t);
template void sparse_nmf_update(const sparse_lines<float>&, float*, float*, int64_t, const nmf_options&, int,
                                workspace_view);
template void sparse_nmf_update(const sparse_lines<double>&, double*, double*, int64_t, const nmf_options&, int,
                                workspace_view);
template double sparse_nmf_objective(const sparse_lines<float>&, const float*, const float*, int64_t,
                                     const nmf_options&, workspace_view);
template double sparse_nmf_objective(const sparse_lines<double>&, const double*, const double*, int64_t,
                                     const nmf_options&, workspace_view);

}  // namespace nmfuse
