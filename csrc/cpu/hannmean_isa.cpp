// K = h h' is separable: for a strip of columns, vertical sums of kRows rows go to a buffer in L1, and horizontal sums
// follow from there. Integers and masked images first turn into rows of sums' type (value or 0, and weight 1 or 0), and
// so do volumes: such a row is the sum of the rows at its place in the planes above and below.
// Loops are plain so that the compiler vectorises them for the instruction set this file is compiled for. Nothing here
// may be shared with other files (std containers, inline functions): they would get these instructions too.
#include "cpu/hannmean_isa.h"

#include <cstring>

#include "cpu/simd.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

using std::int64_t;
using std::uint8_t;
using codes_view = image_view<const uint8_t>;

constexpr int kRows = 4;  // rows of output at once: each row of the source is then loaded for several of them
constexpr int kMaxHalf = kMaxHannSize / 2;
constexpr int kAnyHalf = -1;  // a window size without a kernel of its own
constexpr int kMargin = 32;   // columns of buffer beside a strip: at least kMaxHalf
constexpr int kVector = 16;   // the widest vectors hold so many floats
constexpr int kStripBytes = 2048;

template <class A>
constexpr int kStrip = kStripBytes / static_cast<int>(sizeof(A));

// One row of a strip in L1, with the columns that the horizontal window reaches beside it.
template <class A>
struct strip_row {
  alignas(64) A values[kStrip<A> + 2 * kMargin];
};

// Columns [first, last) of an image of `cols`. What the horizontal window reads lies in [read_first, read_last), whole
// vectors where the image has them.
struct column_strip {
  int64_t first, last, read_first, read_last, cols;
  int64_t width() const { return last - first; }
  int64_t read_width() const { return read_last - read_first; }
  int64_t read_offset() const { return kMargin + read_first - first; }
};

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Index in [0, n) of the pixel that stands for i beyond the border, the edge pixel repeated; any i.
int64_t reflect(int64_t i, int64_t n) {
  i %= 2 * n;
  if (i < 0) i += 2 * n;
  return i < n ? i : 2 * n - 1 - i;
}

// Functions of one row. Pointers and counts are arguments, not captured, so that the compiler knows what may overlap;
// calls are not inlined, so that it compiles each once, not once for each window size.

template <class T, class A>
[[gnu::noinline]] void convert_row(const T* __restrict from, int64_t count, A* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] = static_cast<A>(from[x]);
}

// Floats are chosen, not multiplied by their weight: an ignored NaN does no harm. Of that choice between integers the
// compiler would make a branch, and not vectorise.
template <class T, class A>
inline A value_or_zero(T value, A used) {
  if constexpr (std::is_integral_v<T>) return static_cast<A>(value) * used;
  return used != A(0) ? static_cast<A>(value) : A(0);
}

template <class T, class A>
[[gnu::noinline]] void convert_reliable(const T* __restrict from, const uint8_t* __restrict codes, int64_t count,
                                        A* __restrict to, A* __restrict weights) {
  for (int64_t x = 0; x < count; ++x) {
    const A used = static_cast<A>(codes[x] == kReliable);
    to[x] = value_or_zero(from[x], used);
    weights[x] = used;
  }
}

template <class A>
[[gnu::noinline]] void convert_weights(const uint8_t* __restrict codes, int64_t count, A* __restrict weights) {
  for (int64_t x = 0; x < count; ++x) weights[x] = codes[x] == kReliable ? A(1) : A(0);
}

// The same for the rows of a volume, which are added up along its depth.

template <class T, class A>
[[gnu::noinline]] void scale_row(const T* __restrict from, A weight, int64_t count, A* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] = weight * static_cast<A>(from[x]);
}

template <class T, class A>
[[gnu::noinline]] void add_rows(const T* __restrict above, const T* __restrict below, A weight, int64_t count,
                                A* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] += weight * (static_cast<A>(above[x]) + static_cast<A>(below[x]));
}

template <class T, class A>
[[gnu::noinline]] void add_reliable(const T* __restrict from, const uint8_t* __restrict codes, A weight, int64_t count,
                                    A* __restrict to, A* __restrict weights) {
  for (int64_t x = 0; x < count; ++x) {
    to[x] += codes[x] == kReliable ? weight * static_cast<A>(from[x]) : A(0);
    weights[x] += codes[x] == kReliable ? weight : A(0);
  }
}

template <class A>
[[gnu::noinline]] void add_weights(const uint8_t* __restrict codes, A weight, int64_t count, A* __restrict weights) {
  for (int64_t x = 0; x < count; ++x) weights[x] += codes[x] == kReliable ? weight : A(0);
}

template <class A>
[[gnu::noinline]] void clear_row(int64_t count, A* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] = 0;
}

// The planes that a window reaches from the plane of a band; of an image, that plane alone.
class plane_window {
 public:
  plane_window(const row_band& band, int half)
      : volume_(band.b - band.b % band.depth), z_(band.b % band.depth), depth_(band.depth), half_(half) {}

  bool is_image() const { return depth_ == 1; }
  int half() const { return half_; }
  int64_t at(int k) const { return volume_ + reflect(z_ + k, depth_); }  // k = -half ... half

 private:
  int64_t volume_, z_, depth_;
  int half_;
};

// A pixel that keeps its value is one whose sum of weights is 0, be it for want of neighbours or as background.
template <class A>
[[gnu::noinline]] void clear_background(const uint8_t* __restrict codes, int64_t count, A* __restrict weights) {
  for (int64_t x = 0; x < count; ++x) weights[x] = codes[x] == kBackground ? A(0) : weights[x];
}

// The nearest integer to a mean of unsigned integers, ties to even, saturated; a float as it is.
template <class T, class A>
T to_pixel(A mean) {
  if constexpr (std::is_integral_v<T>) {
    mean += 8388608.0f;  // 2^23: floats from here on are the integers, and their low bits count them
    std::int32_t bits;
    std::memcpy(&bits, &mean, sizeof(bits));
    constexpr std::int32_t kLargest = 0x4b000000 + static_cast<T>(-1);
    bits = bits < kLargest ? bits : kLargest;
    return static_cast<T>(bits);
  } else {
    return mean;
  }
}

template <class T, class A>
[[gnu::noinline]] void store_pixels(const A* __restrict means, int64_t count, T* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] = to_pixel<T>(means[x]);
}

// to = sums / weights, or the pixel's own value where it keeps it.
template <class T, class A>
[[gnu::noinline]] void store_means(const T* __restrict from, const uint8_t* __restrict codes, const A* __restrict sums,
                                   const A* __restrict weights, int64_t count, T* __restrict to) {
  for (int64_t x = 0; x < count; ++x) {
    const A own = static_cast<A>(from[x]), weight = codes[x] == kBackground ? A(0) : weights[x];
    const A mean = sums[x] / (weight == 0 ? A(1) : weight);
    to[x] = to_pixel<T>(weight == 0 ? own : mean);
  }
}

// Calls write(line) for a line of a strip: the image's own, or one in L1 that is then streamed there.
template <class A, class T, class Write>
void write_line(T* to, const column_strip& strip, bool streams, Write write) {
  if (!streams) return write(to);
  alignas(64) T line[kStrip<A>];
  write(line);
  stream(line, strip.width(), to);
}

template <class T>
[[gnu::noinline]] void split_gradient(const T* __restrict grad, const T* __restrict weights, int64_t count,
                                      T* __restrict shared, T* __restrict stays) {
  for (int64_t x = 0; x < count; ++x) {
    const T value = grad[x], weight = weights[x];
    const T part = value / (weight == 0 ? T(1) : weight);
    shared[x] = weight == 0 ? T(0) : part;
    stays[x] = weight == 0 ? value : T(0);
  }
}

template <class T>
[[gnu::noinline]] void store_reliable(const T* __restrict sums, const uint8_t* __restrict codes, int64_t count,
                                      T* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] = codes[x] == kReliable ? sums[x] : to[x];
}

template <class A, class Body>
void for_each_strip(int64_t cols, int half, Body body) {
  const int64_t reach = (half + kVector - 1) / kVector * kVector;
  for (int64_t first = 0; first < cols; first += kStrip<A>) {
    const int64_t last = smaller(first + kStrip<A>, cols);
    body(column_strip{first, last, larger(first - reach, 0), smaller(last + reach, cols), cols});
  }
}

// sums[q][x] = vertical sum around rows[q + half][x].
template <int kHalf, class A>
[[gnu::noinline]] void sum_vertically(const A* const* rows, const hann_taps<A>& window, const column_strip& strip,
                                      strip_row<A>* sums) {
  const int64_t count = strip.read_width(), offset = strip.read_offset();
  if constexpr (kHalf != kAnyHalf) {
    const A* r[kRows + 2 * kHalf];
    for (int i = 0; i < kRows + 2 * kHalf; ++i) r[i] = rows[i];
    A w[kHalf + 1];
    for (int j = 0; j <= kHalf; ++j) w[j] = window.taps[j];
    A* s[kRows];
    for (int q = 0; q < kRows; ++q) s[q] = sums[q].values + offset;
#pragma GCC ivdep
    for (int64_t x = 0; x < count; ++x) {
      A v[kRows + 2 * kHalf], sum[kRows];  // each row is loaded once, before anything is stored
#pragma GCC unroll 64
      for (int i = 0; i < kRows + 2 * kHalf; ++i) v[i] = r[i][x];
#pragma GCC unroll 4
      for (int q = 0; q < kRows; ++q) {
        sum[q] = w[0] * v[q + kHalf];
#pragma GCC unroll 16
        for (int j = 1; j <= kHalf; ++j) sum[q] += w[j] * (v[q + kHalf - j] + v[q + kHalf + j]);
      }
#pragma GCC unroll 4
      for (int q = 0; q < kRows; ++q) s[q][x] = sum[q];
    }
  } else {
    for (int q = 0; q < kRows; ++q) {
      const A* const* centre = rows + q + window.half;
      A* __restrict s = sums[q].values + offset;
      for (int64_t x = 0; x < count; ++x) s[x] = window.taps[0] * centre[0][x];
      for (int j = 1; j <= window.half; ++j) {
        const A w = window.taps[j];
        const A *above = centre[-j], *below = centre[j];
        for (int64_t x = 0; x < count; ++x) s[x] += w * (above[x] + below[x]);
      }
    }
  }
}

// Fills the columns beyond the image's left and right border; at(c) is column c of the image.
template <class At>
void reflect_columns(int half, const column_strip& strip, At at) {
  for (int64_t x = strip.first - half; x < 0; ++x) at(x) = at(reflect(x, strip.cols));
  for (int64_t x = strip.cols; x < strip.last + half; ++x) at(x) = at(reflect(x, strip.cols));
}

#if defined(__AVX512F__)
// The vector that lies `shift` elements after the beginning of (a, b), which follow each other.
template <int shift, class A, class Vec>
inline Vec between(Vec a, Vec b) {
  constexpr __mmask16 kAll = 0xffff;  // without a mask, GCC 12 warns of its own header
  constexpr int kWords = shift * static_cast<int>(sizeof(A) / 4);
  return bits_of<Vec>(_mm512_maskz_alignr_epi32(kAll, bits_of<__m512i>(b), bits_of<__m512i>(a), kWords));
}

// sum += w[j] (centre[-j] + centre[j]) for j = from ... half, of the vector `here` at `centre`, between its neighbours.
// Most come from registers, some from L1, so that shuffles and loads take equally long.
template <int from, int half, class Vec, class A>
inline void add_neighbours(Vec left, Vec here, Vec right, const A* centre, const A* w, Vec& sum) {
  if constexpr (from <= half - half / 3) {
    sum += w[from] * (between<kLanes<A> - from, A>(left, here) + between<from, A>(here, right));
    add_neighbours<from + 1, half>(left, here, right, centre, w, sum);
  } else if constexpr (from <= half) {
    sum += w[from] * (load<Vec>(centre - from) + load<Vec>(centre + from));
    add_neighbours<from + 1, half>(left, here, right, centre, w, sum);
  }
}
#endif

// out[x] = horizontal sum around column x of the strip.
template <int kHalf, class A>
[[gnu::noinline]] void sum_horizontally(const strip_row<A>& sums, const hann_taps<A>& window, int64_t count,
                                        A* __restrict out) {
  const A* centre = sums.values + kMargin;
  if constexpr (kHalf != kAnyHalf) {
    A w[kHalf + 1];
    for (int j = 0; j <= kHalf; ++j) w[j] = window.taps[j];
    int64_t x = 0;
#if defined(__AVX512F__)  // where every unaligned load touches two lines of L1
    using vector = vec<A>;
    constexpr int n = kLanes<A>;
    vector left = load<vector>(centre - n), here = load<vector>(centre);
    for (; x + n <= count; x += n) {
      const vector right = load<vector>(centre + x + n);
      vector sum = w[0] * here;
      add_neighbours<1, kHalf>(left, here, right, centre + x, w, sum);
      store(out + x, sum);
      left = here;
      here = right;
    }
#endif
    for (; x < count; ++x) {
      A sum = w[0] * centre[x];
#pragma GCC unroll 16
      for (int j = 1; j <= kHalf; ++j) sum += w[j] * (centre[x - j] + centre[x + j]);
      out[x] = sum;
    }
  } else {
    for (int64_t x = 0; x < count; ++x) out[x] = window.taps[0] * centre[x];
    for (int j = 1; j <= window.half; ++j) {
      const A w = window.taps[j];
      for (int64_t x = 0; x < count; ++x) out[x] += w * (centre[x - j] + centre[x + j]);
    }
  }
}

// The sums of kRows rows of one strip, from rows that row(y) gives for y before reflection, from column read_first on.
template <int kHalf, class A>
class block_sums {
 public:
  block_sums(const hann_taps<A>& window, const column_strip& strip) : window_(window), strip_(strip) {}

  template <class Row>
  void start(int64_t y, Row row) {
    const A* rows[kRows + 2 * kMaxHalf];
    for (int i = 0; i < kRows + 2 * window_.half; ++i) rows[i] = row(y - window_.half + i);
    sum_vertically<kHalf>(rows, window_, strip_, sums_);
    for (strip_row<A>& sums : sums_) {
      reflect_columns(window_.half, strip_, [&](int64_t c) -> A& { return sums.values[kMargin + c - strip_.first]; });
    }
  }

  // The window sums of row y + q.
  void finish(int q, A* out) const { sum_horizontally<kHalf>(sums_[q], window_, strip_.width(), out); }

 private:
  const hann_taps<A>& window_;
  const column_strip& strip_;
  strip_row<A> sums_[kRows];
};

// The converted rows that a block of rows reads, kept while the block moves down.
template <int kHalf, class A>
class row_ring {
 public:
  A* row(int64_t y) { return rows_[(y + kMaxHalf) % kRing].values; }  // y >= -kMaxHalf

  // Calls convert(y) for the rows around block y that are not there yet.
  template <class Convert>
  static void advance(int64_t y, bool first, int half, Convert convert) {
    for (int64_t i = first ? y - half : y + half; i < y + half + kRows; ++i) convert(i);
  }

 private:
  static constexpr int kRing = kRows + 2 * (kHalf == kAnyHalf ? kMaxHalf : kHalf);
  strip_row<A> rows_[kRing];
};

// The rows that block sums read from an image. A ring of copies serves more than a few rows better than the image: rows
// a power of two apart share few lines of L1.
template <int kHalf, class T>
class source_rows {
  using A = hann_sum<T>;
  static constexpr bool kInPlace = std::is_same_v<T, A> && (kHalf == 1 || kHalf == 2);

 public:
  source_rows(const image_view<const T>& x, const plane_window& planes, const hann_taps<A>& window,
              const column_strip& strip)
      : x_(x), planes_(planes), window_(window), strip_(strip) {}

  void advance(int64_t y, bool first) {
    if (kInPlace && planes_.is_image()) return;
    ring_.advance(y, first, window_.half, [&](int64_t i) { fill(i, ring_.row(i)); });
  }

  const A* row(int64_t i) {
    if constexpr (kInPlace) {
      if (planes_.is_image()) return in_plane(0, i);
    }
    return ring_.row(i);
  }

 private:
  const T* in_plane(int k, int64_t i) const { return x_.row(planes_.at(k), reflect(i, x_.rows)) + strip_.read_first; }

  void fill(int64_t i, A* to) const {
    const int64_t count = strip_.read_width();
    if (planes_.is_image()) return convert_row(in_plane(0, i), count, to);
    scale_row(in_plane(0, i), window_.taps[0], count, to);
    for (int k = 1; k <= window_.half; ++k) {
      add_rows(in_plane(-k, i), in_plane(k, i), window_.taps[k], count, to);
    }
  }

  const image_view<const T>& x_;
  const plane_window& planes_;
  const hann_taps<A>& window_;
  const column_strip& strip_;
  row_ring<kHalf, A> ring_;
};

// A row of weights, and with x a row of weighted values: of row i before reflection, from column read_first on.
template <class T, class A>
void fill_reliable(const image_view<const T>* x, const codes_view& reliability, const plane_window& planes,
                   const hann_taps<A>& window, const column_strip& strip, int64_t i, A* values, A* weights) {
  const int64_t y = reflect(i, reliability.rows), count = strip.read_width();
  const auto codes = [&](int k) { return reliability.row(planes.at(k), y) + strip.read_first; };
  const auto pixels = [&](int k) { return x->row(planes.at(k), y) + strip.read_first; };
  if (planes.is_image()) {
    if (x == nullptr) return convert_weights(codes(0), count, weights);
    return convert_reliable(pixels(0), codes(0), count, values, weights);
  }
  clear_row(count, weights);
  if (x != nullptr) clear_row(count, values);
  for (int k = -planes.half(); k <= planes.half(); ++k) {
    const A tap = window.taps[k < 0 ? -k : k];
    if (x == nullptr) {
      add_weights(codes(k), tap, count, weights);
    } else {
      add_reliable(pixels(k), codes(k), tap, count, values, weights);
    }
  }
}

template <int kHalf, class T>
void mean_of_all(const image_view<const T>& x, const hann_taps<hann_sum<T>>& window, const image_view<T>& out,
                 const row_band& band) {
  using A = hann_sum<T>;
  const plane_window planes(band, window.half);
  for_each_strip<A>(x.cols, window.half, [&](const column_strip& strip) {
    block_sums<kHalf, A> sums(window, strip);
    source_rows<kHalf, T> source(x, planes, window, strip);
    const bool streams = exceeds_caches(out);
    for (int64_t y = band.first; y < band.last; y += kRows) {
      source.advance(y, y == band.first);
      sums.start(y, [&](int64_t i) { return source.row(i); });
      for (int q = 0; q < kRows && y + q < band.last; ++q) {
        T* to = out.row(band.b, y + q) + strip.first;
        write_line<A>(to, strip, streams, [&](T* line) {
          if constexpr (std::is_same_v<T, A>) {
            sums.finish(q, line);
          } else {
            strip_row<A> sum, scaled;
            sums.finish(q, sum.values);
            const A* means = sum.values;
            if (window.scale != 1) {  // by itself: as one multiply-add with the rounding, it would leave no tie a tie
              scale_row(means, window.scale, strip.width(), scaled.values);
              means = scaled.values;
            }
            store_pixels(means, strip.width(), line);
          }
        });
      }
    }
  });
}

// The same of bytes at size 3 and 5, in whole numbers: 144 * 255 is the largest sum, so a word of 16 bits holds one.
// Two bytes of an image are a word too, a pixel of an even column below one of an odd column, and go their ways apart.
using words = vec<std::uint16_t>;
constexpr int kPairs = kStrip<std::uint16_t> / 2;

struct pair_row {
  alignas(64) std::uint16_t even[kPairs + 2 * kMargin + kLanes<std::uint16_t>];
  alignas(64) std::uint16_t odd[kPairs + 2 * kMargin + kLanes<std::uint16_t>];
  const std::uint16_t* from(int64_t c) const { return (c & 1 ? odd : even) + kMargin + (c >> 1); }  // c: of the strip
  std::uint16_t& at(int64_t c) { return const_cast<std::uint16_t&>(*from(c)); }
};

// Makes v[i] the weighted sum of v[i] ... v[i + 2 kHalf]: [1 2 1] is [1 1] twice, and [1 3 4 3 1] is that and [1 1 1].
template <int kHalf, int kCount>
inline void sum_windows(words (&v)[kCount]) {
  for (int i = 0; i < kCount - 1; ++i) v[i] += v[i + 1];
  for (int i = 0; i < kCount - 2; ++i) v[i] += v[i + 1];
  if (kHalf == 1) return;
  for (int i = 0; i < kCount - 4; ++i) v[i] += v[i + 1] + v[i + 2];
}

// sum / 16 or sum / 144, to nearest, ties to even: at a tie, bit 4 says whether the integer below is odd.
template <int kHalf>
inline words round_sum(words sum) {
  constexpr std::uint16_t kWhole = kHalf == 1 ? 16 : 144, kBelowHalf = kWhole / 2 - 1;
  return (sum + kBelowHalf + ((sum >> 4) & 1)) / kWhole;
}

template <int kHalf>
[[gnu::noinline]] void sum_pairs_vertically(const uint8_t* const* rows, const column_strip& strip, pair_row* sums) {
  constexpr int kReads = kRows + 2 * kHalf;
  const int64_t count = strip.read_width(), start = strip.read_first - strip.first;
  for (int64_t x = 0; x < count; x += kVectorBytes) {
    words even[kReads], odd[kReads];
    for (int i = 0; i < kReads; ++i) {
      words pairs{};
      if (x + kVectorBytes <= count) {
        pairs = load<words>(rows[i] + x);
      } else {
        std::memcpy(&pairs, rows[i] + x, static_cast<std::size_t>(count - x));
      }
      even[i] = pairs & 0xff;
      odd[i] = pairs >> 8;
    }
    sum_windows<kHalf>(even);
    sum_windows<kHalf>(odd);
    for (int q = 0; q < kRows; ++q) {
      store(&sums[q].at(start + x), even[q]);
      store(&sums[q].at(start + x + 1), odd[q]);
    }
  }
}

template <int kHalf>
[[gnu::noinline]] void mean_of_pairs(const pair_row& sums, int64_t count, uint8_t* to) {
  for (int64_t x = 0; x < count; x += kVectorBytes) {
    words v[2 * kHalf + 2];
    for (int j = 0; j < 2 * kHalf + 2; ++j) v[j] = load<words>(sums.from(x + j - kHalf));
    sum_windows<kHalf>(v);
    const words means = round_sum<kHalf>(v[0]) | (round_sum<kHalf>(v[1]) << 8);
    if (x + kVectorBytes <= count) {
      store(to + x, means);
    } else {
      std::memcpy(to + x, &means, static_cast<std::size_t>(count - x));
    }
  }
}

template <int kHalf>
void mean_of_bytes(const image_view<const uint8_t>& x, const image_view<uint8_t>& out, const row_band& band) {
  for_each_strip<std::uint16_t>(x.cols, kHalf, [&](const column_strip& strip) {
    pair_row sums[kRows];
    const bool streams = exceeds_caches(out);
    for (int64_t y = band.first; y < band.last; y += kRows) {
      const uint8_t* rows[kRows + 2 * kHalf];
      for (int i = 0; i < kRows + 2 * kHalf; ++i) {
        rows[i] = x.row(band.b, reflect(y - kHalf + i, x.rows)) + strip.read_first;
      }
      sum_pairs_vertically<kHalf>(rows, strip, sums);
      for (int q = 0; q < kRows && y + q < band.last; ++q) {
        reflect_columns(kHalf, strip, [&](int64_t c) -> std::uint16_t& { return sums[q].at(c - strip.first); });
        write_line<std::uint16_t>(out.row(band.b, y + q) + strip.first, strip, streams,
                                  [&](uint8_t* line) { mean_of_pairs<kHalf>(sums[q], strip.width(), line); });
      }
    }
  });
}

template <int kHalf, class T>
void mean_of_reliable(const image_view<const T>& x, const codes_view& reliability, const hann_taps<hann_sum<T>>& window,
                      const image_view<T>& out, const row_band& band) {
  using A = hann_sum<T>;
  const plane_window planes(band, window.half);
  for_each_strip<A>(x.cols, window.half, [&](const column_strip& strip) {
    block_sums<kHalf, A> values(window, strip), weights(window, strip);
    const bool streams = exceeds_caches(out);
    row_ring<kHalf, A> value_ring, weight_ring;
    for (int64_t y = band.first; y < band.last; y += kRows) {
      value_ring.advance(y, y == band.first, window.half, [&](int64_t i) {
        fill_reliable(&x, reliability, planes, window, strip, i, value_ring.row(i), weight_ring.row(i));
      });
      values.start(y, [&](int64_t i) { return value_ring.row(i); });
      weights.start(y, [&](int64_t i) { return weight_ring.row(i); });
      for (int q = 0; q < kRows && y + q < band.last; ++q) {
        strip_row<A> value, weight;
        values.finish(q, value.values);
        weights.finish(q, weight.values);
        const uint8_t* codes = reliability.row(band.b, y + q) + strip.first;
        T* to = out.row(band.b, y + q) + strip.first;
        write_line<A>(to, strip, streams, [&](T* line) {
          store_means(x.row(band.b, y + q) + strip.first, codes, value.values, weight.values, strip.width(), line);
        });
      }
    }
  });
}

template <int kHalf, class T>
void mean(const image_view<const T>& x, const codes_view& reliability, const hann_taps<hann_sum<T>>& window,
          const image_view<T>& out, const row_band& band) {
  const bool all = reliability.data == nullptr;
  if constexpr (std::is_same_v<T, uint8_t> && (kHalf == 1 || kHalf == 2)) {
    if (all && band.depth == 1) {
      mean_of_bytes<kHalf>(x, out, band);
      return finish_streaming();
    }
  }
  if (all) {
    mean_of_all<kHalf>(x, window, out, band);
  } else {
    mean_of_reliable<kHalf>(x, reliability, window, out, band);
  }
  finish_streaming();
}

template <int kHalf, class T>
void share(const image_view<const T>& grad, const codes_view& reliability, const hann_taps<T>& window,
           const image_view<T>& to_share, const image_view<T>& out, const row_band& band) {
  const plane_window planes(band, window.half);
  for_each_strip<T>(grad.cols, window.half, [&](const column_strip& strip) {
    block_sums<kHalf, T> weights(window, strip);
    row_ring<kHalf, T> ring;
    for (int64_t y = band.first; y < band.last; y += kRows) {
      ring.advance(y, y == band.first, window.half, [&](int64_t i) {
        fill_reliable<T, T>(nullptr, reliability, planes, window, strip, i, nullptr, ring.row(i));
      });
      weights.start(y, [&](int64_t i) { return ring.row(i); });
      for (int q = 0; q < kRows && y + q < band.last; ++q) {
        strip_row<T> weight;
        weights.finish(q, weight.values);
        clear_background(reliability.row(band.b, y + q) + strip.first, strip.width(), weight.values);
        split_gradient(grad.row(band.b, y + q) + strip.first, weight.values, strip.width(),
                       to_share.row(band.b, y + q) + strip.first, out.row(band.b, y + q) + strip.first);
      }
    }
  });
}

template <int kHalf, class T>
void collect(const image_view<const T>& shared, const codes_view& reliability, const hann_taps<T>& window,
             const image_view<T>& out, const row_band& band) {
  const plane_window planes(band, window.half);
  for_each_strip<T>(shared.cols, window.half, [&](const column_strip& strip) {
    block_sums<kHalf, T> sums(window, strip);
    source_rows<kHalf, T> source(shared, planes, window, strip);
    for (int64_t y = band.first; y < band.last; y += kRows) {
      source.advance(y, y == band.first);
      sums.start(y, [&](int64_t i) { return source.row(i); });
      for (int q = 0; q < kRows && y + q < band.last; ++q) {
        strip_row<T> line;
        sums.finish(q, line.values);
        store_reliable(line.values, reliability.row(band.b, y + q) + strip.first, strip.width(),
                       out.row(band.b, y + q) + strip.first);
      }
    }
  });
}

template <int kHalf, class T>
hann_kernels<T> kernels_of_half() {
  if constexpr (std::is_floating_point_v<T>) {
    return {&mean<kHalf, T>, &share<kHalf, T>, &collect<kHalf, T>};
  } else {
    return {&mean<kHalf, T>, nullptr, nullptr};
  }
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA

namespace nmfuse {

template <isa kIsa, class T>
hann_kernels<T> get_hann_kernels(int half) {
  using namespace NMFUSE_ISA;
  switch (half) {
    case 1: return kernels_of_half<1, T>();
    case 2: return kernels_of_half<2, T>();
    case 3: return kernels_of_half<3, T>();
    case 4: return kernels_of_half<4, T>();
    case 7: return kernels_of_half<7, T>();
    default: return kernels_of_half<kAnyHalf, T>();
  }
}

template hann_kernels<float> get_hann_kernels<kThisIsa, float>(int);
template hann_kernels<double> get_hann_kernels<kThisIsa, double>(int);
template hann_kernels<std::uint8_t> get_hann_kernels<kThisIsa, std::uint8_t>(int);
template hann_kernels<std::uint16_t> get_hann_kernels<kThisIsa, std::uint16_t>(int);

}  // namespace nmfuse
