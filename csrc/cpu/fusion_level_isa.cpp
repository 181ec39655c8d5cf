// A tile is worked on row by row. Of each layer of each source three rows are kept, as much as the next layer sees, so
// that all of a tile's rows stay in the cache; a row of a layer is one product of weights and rows (`multiply`).
#include "cpu/fusion_level_isa.h"

#include <algorithm>
#include <cmath>

#include "cpu/simd.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

using std::int64_t;
using float_vec = vec<float>;

constexpr int kFloats = kLanes<float>;
constexpr int kVectors = kVectorRegisters == 32 ? 6 : 3;  // of a row that a step of `multiply` makes
constexpr int64_t kLeft = 16, kRight = 48;                // floats before and after a tile's columns in a row
constexpr float kLeastGate = 0.4F;                        // as in nmfuse.nets.fusion_net
constexpr float kFaint = 1e-10F;

// Exponential, to about 2 ulp; what would leave the normal range stays at its end.
float_vec exponential(float_vec x) {
  constexpr float kRound = 0x1.8p23F;  // added and taken away again, it leaves an integer
  x = larger(x, broadcast<float_vec>(-87.0F));
  x = smaller(x, broadcast<float_vec>(88.0F));
  const float_vec shifted = x * 0x1.715476p0F + kRound;
  const float_vec k = shifted - kRound;
  const float_vec r = (x - k * 0x1.62e4p-1F) - k * 0x1.7f7d1cp-20F;
  float_vec series = broadcast<float_vec>(1.0F / 720);
  for (const float factor : {1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F}) series = series * r + factor;
  using int_vec = vec<std::int32_t>;
  const int_vec power = bits_of<int_vec>(shifted) - bits_of<int_vec>(broadcast<float_vec>(kRound));
  return series * bits_of<float_vec>((power + 127) << 23);
}

// What follows the products of a layer.
struct finish {
  const float* bias = nullptr;
  const float* gain = nullptr;  // none: 1
  bool rectified = false;
};

// M rows of a layer, P vectors from column x on: out[m] = finish(sum_k weights[k, m] in[k]).
template <int M, int P>
void multiply(const float* const* in, int64_t inputs, const float* weights, int64_t x, const finish& then, int64_t m0,
              float* const* out) {
  float_vec sums[M][P];
  for (int m = 0; m < M; ++m) {
    for (int p = 0; p < P; ++p) sums[m][p] = broadcast<float_vec>(then.bias[m0 + m]);
  }
  for (int64_t k = 0; k < inputs; ++k) {
    const float* row = in[k] + x;
    float_vec seen[P];
    for (int p = 0; p < P; ++p) seen[p] = load<float_vec>(row + p * kFloats);
    for (int m = 0; m < M; ++m) {
      for (int p = 0; p < P; ++p) sums[m][p] += seen[p] * weights[k * M + m];
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int p = 0; p < P; ++p) {
      float_vec y = sums[m][p];
      if (then.rectified) y = larger(y, float_vec{});
      if (then.gain != nullptr) y *= then.gain[m0 + m];
      store(out[m0 + m] + x + p * kFloats, y);
    }
  }
}

template <int P>
void multiply_all(const packed_layer& layer, const float* const* in, int64_t x, const finish& then, float* const* out) {
  const int64_t outputs = (layer.outputs + 1) / 2 * 2;
  int64_t m = 0;
  for (; m + 4 <= outputs; m += 4) {
    multiply<4, P>(in, layer.inputs, layer.weights.data() + m * layer.inputs, x, then, m, out);
  }
  for (; m < outputs; m += 2) {
    multiply<2, P>(in, layer.inputs, layer.weights.data() + m * layer.inputs, x, then, m, out);
  }
}

// Columns first to last of the rows of a layer; up to a vector more is written.
void multiply_row(const packed_layer& layer, const float* const* in, int64_t first, int64_t last, const finish& then,
                  float* const* out) {
  int64_t x = first;
  for (; x + (kVectors - 1) * kFloats < last; x += kVectors * kFloats) multiply_all<kVectors>(layer, in, x, then, out);
  switch ((last - x + kFloats - 1) / kFloats) {
    case 1: return multiply_all<1>(layer, in, x, then, out);
    case 2: return multiply_all<2>(layer, in, x, then, out);
    case 3: return multiply_all<(kVectors > 3 ? 3 : 1)>(layer, in, x, then, out);
    case 4: return multiply_all<(kVectors > 3 ? 4 : 1)>(layer, in, x, then, out);
    case 5: return multiply_all<(kVectors > 3 ? 5 : 1)>(layer, in, x, then, out);
    default: return;
  }
}

// Rows of a thread, kept from tile to tile.
class memory {
 public:
  float* take(int64_t floats) {
    floats = (floats + 15) / 16 * 16;
    const int64_t at = used_;
    used_ += floats;
    if (counting_) return nullptr;
    return base_ + at;
  }

  // Calls body twice: to count what it takes, and to give it that.
  template <class Body>
  void lay_out(const Body& body) {
    counting_ = true;
    used_ = 0;
    body();
    if (used_ + 16 > static_cast<int64_t>(floats_.size())) floats_.assign(static_cast<std::size_t>(used_ + 16), 0.0F);
    const auto address = reinterpret_cast<std::uintptr_t>(floats_.data());
    base_ = floats_.data() + (64 - address % 64) % 64 / sizeof(float);
    counting_ = false;
    used_ = 0;
    body();
  }

 private:
  std::vector<float> floats_;
  float* base_ = nullptr;
  int64_t used_ = 0;
  bool counting_ = false;
};

memory& own_memory() {
  static thread_local memory here;
  return here;
}

// Columns of a tile and of what is looked at around it; pointers to a row are to the tile's first column.
struct columns {
  int64_t first = 0, last = 0, all = 0;

  int64_t low(int64_t reach) const { return std::max<int64_t>(0, first - reach) - first; }
  int64_t high(int64_t reach) const { return std::min(all, last + reach) - first; }
  int64_t floats() const { return kLeft + (last - first + 15) / 16 * 16 + kRight; }

  // Repeats the pixel at an end of the image once beyond it.
  void repeat(float* row) const {
    if (first == 0) row[-1] = row[0];
    if (last == all) row[last - first] = row[last - first - 1];
  }
  void blank(float* row) const {
    if (first == 0) row[-1] = 0;
    if (last == all) row[last - first] = 0;
  }
};

// The last three rows of some maps.
class ring {
 public:
  void lay_out(memory& from, int64_t maps, const columns& x) {
    maps_ = (maps + 1) / 2 * 2;
    floats_ = x.floats();
    rows_ = from.take(3 * maps_ * floats_);
  }
  float* row(int64_t y, int64_t map) const { return rows_ + (y % 3 * maps_ + map) * floats_ + kLeft; }
  int64_t maps() const { return maps_; }

 private:
  float* rows_ = nullptr;
  int64_t maps_ = 0, floats_ = 0;
};

// One row of some maps.
class line {
 public:
  void lay_out(memory& from, int64_t maps, const columns& x) {
    maps_ = (maps + 1) / 2 * 2;
    floats_ = x.floats();
    rows_ = from.take(maps_ * floats_);
  }
  float* row(int64_t map = 0) const { return rows_ + map * floats_ + kLeft; }
  int64_t maps() const { return maps_; }

 private:
  float* rows_ = nullptr;
  int64_t maps_ = 0, floats_ = 0;
};

constexpr int64_t kMostInputs = 9 * kMostMaps, kMostOutputs = 2 * kMostMaps;

// The inputs of a convolution of 3 x 3 for row y: of each map, rows above to below and columns left to right.
void point_3x3(const ring& maps, int64_t count, int64_t y, int64_t rows, const float** in) {
  const int64_t near[3] = {std::max<int64_t>(y - 1, 0), y, std::min(y + 1, rows - 1)};
  for (int64_t c = 0; c < count; ++c) {
    for (const int64_t at : near) {
      const float* row = maps.row(at, c);
      for (int64_t dx = -1; dx <= 1; ++dx) *in++ = row + dx;
    }
  }
}

// The branch of one image: rows of features on demand, from above to below.
class branch {
 public:
  void lay_out(memory& from, int64_t channels, const columns& x) {
    image_.lay_out(from, 1, x);
    first_.lay_out(from, channels, x);
    second_.lay_out(from, channels, x);
  }

  // Looks at an image whose first pixel is `image`, with its row stride, for rows from first_row on.
  void start(const float* image, int64_t stride, int64_t rows, int64_t first_row) {
    pixels_ = image, stride_ = stride, rows_ = rows;
    of_second_ = std::max<int64_t>(0, first_row - 1);
    of_first_ = std::max<int64_t>(0, first_row - 2);
    of_image_ = std::max<int64_t>(0, first_row - 3);
  }

  // Writes a row of features, for the tile's columns and `reach` around them.
  void features(int64_t y, int64_t reach, const packed_network& net, const columns& x, float* const* out) {
    for (const int64_t last = std::min(y + 1, rows_ - 1); of_second_ <= last; ++of_second_) second(net, x, reach + 1);
    const float* in[kMostInputs];
    point_3x3(second_, net.branch[2].outputs, y, rows_, in);
    multiply_row(net.branch[2], in, x.low(reach), x.high(reach), {net.branch[2].bias.data(), nullptr, true}, out);
  }

 private:
  void second(const packed_network& net, const columns& x, int64_t reach) {
    for (const int64_t last = std::min(of_second_ + 1, rows_ - 1); of_first_ <= last; ++of_first_) {
      first(net, x, reach + 1);
    }
    convolve(net.branch[1], first_, net.branch[0].outputs, second_, of_second_, x, reach);
  }

  void first(const packed_network& net, const columns& x, int64_t reach) {
    for (const int64_t last = std::min(of_first_ + 1, rows_ - 1); of_image_ <= last; ++of_image_) {
      float* row = image_.row(of_image_, 0);
      const int64_t low = x.low(reach + 1), high = x.high(reach + 1);
      std::memcpy(row + low, pixels_ + of_image_ * stride_ + x.first + low, static_cast<std::size_t>(high - low) * 4);
      x.repeat(row);
    }
    convolve(net.branch[0], image_, 1, first_, of_first_, x, reach);
  }

  void convolve(const packed_layer& layer, const ring& from, int64_t maps, const ring& to, int64_t y, const columns& x,
                int64_t reach) const {
    const float* in[kMostInputs];
    float* out[kMostOutputs];
    point_3x3(from, maps, y, rows_, in);
    for (int64_t c = 0; c < to.maps(); ++c) out[c] = to.row(y, c);
    multiply_row(layer, in, x.low(reach), x.high(reach), {layer.bias.data(), nullptr, true}, out);
    for (int64_t c = 0; c < to.maps(); ++c) x.repeat(out[c]);
  }

  const float* pixels_ = nullptr;
  int64_t stride_ = 0, rows_ = 0, of_image_ = 0, of_first_ = 0, of_second_ = 0;
  ring image_, first_, second_;
};

// A row of what nmfuse.pyramids.expand makes of a coarser plane, for columns low to high of the tile.
struct expansion {
  float* coarse = nullptr;  // a row between the coarse ones
  int64_t floats = 0;

  void lay_out(memory& from, const columns& x) {
    floats = (x.last - x.first) / 2 + 32;
    coarse = from.take(floats);
  }

  void row(const float* plane, int64_t stride, int64_t coarse_rows, int64_t coarse_cols, int64_t y, const columns& x,
           int64_t low, int64_t high, float* __restrict to) const {
    const int64_t i = y / 2;
    const float* __restrict here = plane + i * stride;
    const float* __restrict above = plane + std::max<int64_t>(i - 1, 0) * stride;
    const float* __restrict below = plane + std::min(i + 1, coarse_rows - 1) * stride;
    // Column j of the coarse plane is at t[j - start]; one is repeated beyond each end.
    const int64_t start = (x.first + low + 2) / 2 - 2;  // one before the first that is seen
    const int64_t first = std::max<int64_t>(start, 0), last = std::min((x.first + high - 1) / 2 + 2, coarse_cols);
    float* __restrict t = coarse + 8 - start;
    if (y % 2 == 0) {
      for (int64_t j = first; j < last; ++j) t[j] = 0.125F * above[j] + 0.75F * here[j] + 0.125F * below[j];
    } else {
      for (int64_t j = first; j < last; ++j) t[j] = 0.5F * here[j] + 0.5F * below[j];
    }
    if (start < 0) t[-1] = t[0];
    if (last == coarse_cols) t[last] = t[last - 1];
    int64_t c = low;
    if ((x.first + c) % 2 != 0) {
      const int64_t j = (x.first + c) / 2;
      to[c++] = 0.5F * t[j] + 0.5F * t[j + 1];
    }
    const float* __restrict s = t + (x.first + c) / 2;
    float* __restrict even = to + c;
    const int64_t pairs = (high - c + 1) / 2;
    for (int64_t k = 0; k < pairs; ++k) {
      even[2 * k] = 0.125F * s[k - 1] + 0.75F * s[k] + 0.125F * s[k + 1];
      even[2 * k + 1] = 0.5F * s[k] + 0.5F * s[k + 1];
    }
  }
};

// One source on its way through a tile.
struct source {
  branch looks;
  line seen;  // features, context and notes of the row whose hidden maps come next
  ring hidden;
  ring shown;   // coefficients of the level
  line logits;  // and notes
  line energy, cross, match, gate;
};

class level_tile {
 public:
  level_tile(const fusion_level& level, const packed_network& net, const fusion_tile& tile)
      : level_(level),
        net_(net),
        tile_(tile),
        x_{tile.first_col, tile.last_col, level.cols},
        count_(static_cast<int64_t>(level.images.size())),
        sources_(level.images.size()) {
    seen_ = level.sizes.channels + 1 + level.sizes.read;
    memory& from = own_memory();
    from.lay_out([&] {
      for (source& one : sources_) {
        if (level.features.empty()) one.looks.lay_out(from, level.sizes.channels, x_);
        one.seen.lay_out(from, seen_, x_);
        one.hidden.lay_out(from, level.sizes.hidden, x_);
        one.shown.lay_out(from, 1, x_);
        one.logits.lay_out(from, 2 + level.sizes.written, x_);
        one.energy.lay_out(from, 1, x_);
        one.cross.lay_out(from, 1, x_);
        one.match.lay_out(from, 1, x_);
        one.gate.lay_out(from, 1, x_);
      }
      total_.lay_out(from, seen_, x_);
      others_.lay_out(from, seen_, x_);
      brightest_.lay_out(from, 1, x_);
      sums_.lay_out(from, 4, x_);
      blank_.lay_out(from, 1, x_);
      expansion_.lay_out(from, x_);
    });
    std::fill_n(blank_.row() - kLeft, x_.floats(), 0.0F);
  }

  void run() {
    int64_t next = std::max<int64_t>(0, tile_.first_row - 1);
    if (level_.features.empty()) {
      for (int64_t s = 0; s < count_; ++s) at(s).looks.start(image(s, 0), stride(s), level_.rows, next);
    }
    for (int64_t y = tile_.first_row; y < tile_.last_row; ++y) {
      for (const int64_t last = std::min(y + 1, level_.rows - 1); next <= last; ++next) look(next);
      for (int64_t s = 0; s < count_; ++s) judge(s, y);
      gate(y);
      write(y);
    }
  }

 private:
  source& at(int64_t s) { return sources_[static_cast<std::size_t>(s)]; }
  const float* image(int64_t s, int64_t y) const { return level_.images[static_cast<std::size_t>(s)] + y * stride(s); }
  int64_t stride(int64_t s) const { return level_.image_strides[static_cast<std::size_t>(s)]; }
  bool is_top() const { return level_.coarse.empty(); }
  bool is_finest() const { return level_.handed.empty(); }

  void expand(const image_view<const float>& planes, int64_t plane, int64_t y, int64_t low, int64_t high, float* to) {
    expansion_.row(planes.row(plane, 0), planes.row_stride, planes.rows, planes.cols, y, x_, low, high, to);
  }

  // A row of everything that is looked at: hidden maps and coefficients of all sources.
  void look(int64_t y) {
    const int64_t low = x_.low(1), high = x_.high(1), channels = level_.sizes.channels;
    const auto bytes = static_cast<std::size_t>(high - low) * sizeof(float);
    for (int64_t s = 0; s < count_; ++s) {
      source& one = at(s);
      float* maps[kMostOutputs];
      for (int64_t c = 0; c < one.seen.maps(); ++c) maps[c] = one.seen.row(c);
      if (level_.features.empty()) {
        one.looks.features(y, 1, net_, x_, maps);
      } else {
        for (int64_t c = 0; c < channels; ++c) {
          std::memcpy(maps[c] + low, level_.features.row(s * channels + c, y) + x_.first + low, bytes);
        }
      }
      if (level_.contexts.rows == level_.rows) {
        std::memcpy(maps[channels] + low, level_.contexts.row(s, y) + x_.first + low, bytes);
      } else {
        expand(level_.contexts, s, y, low, high, maps[channels]);
      }
      for (int64_t c = 0; c < level_.sizes.read; ++c) {
        expand(level_.notes, s * level_.sizes.read + c, y, low, high, maps[channels + 1 + c]);
      }
      float* shown = one.shown.row(y, 0);
      const float* pixels = image(s, y) + x_.first;
      if (is_top()) {
        std::memcpy(shown + low, pixels + low, bytes);
      } else {
        expand(level_.coarse, s, y, low, high, shown);
        for (int64_t c = low; c < high; ++c) shown[c] = pixels[c] - shown[c];
      }
      x_.blank(shown);
    }
    if (count_ > 2) add_up(low, high);
    for (int64_t s = 0; s < count_; ++s) hide(s, y, low, high);
    if (is_finest()) {
      float* __restrict brightest = brightest_.row(y, 0);
      std::memcpy(brightest + low, image(0, y) + x_.first + low, bytes);
      for (int64_t s = 1; s < count_; ++s) {
        const float* __restrict pixels = image(s, y) + x_.first;
        for (int64_t c = low; c < high; ++c) brightest[c] = std::max(brightest[c], pixels[c]);
      }
      x_.repeat(brightest);
    }
  }

  // What all sources show together.
  void add_up(int64_t low, int64_t high) {
    for (int64_t k = 0; k < seen_; ++k) {
      float* __restrict total = total_.row(k);
      std::fill(total + low, total + high, 0.0F);
      for (const source& one : sources_) {
        const float* __restrict seen = one.seen.row(k);
        for (int64_t c = low; c < high; ++c) total[c] += seen[c];
      }
    }
  }

  // A source's hidden maps from its own and the mean of the others'.
  void hide(int64_t s, int64_t y, int64_t low, int64_t high) {
    const float* in[kMostInputs];
    float* out[kMostOutputs];
    source& one = at(s);
    const float share = 1.0F / static_cast<float>(count_ - 1);
    for (int64_t k = 0; k < seen_; ++k) {
      in[k] = one.seen.row(k);
      if (count_ == 2) {
        in[seen_ + k] = at(1 - s).seen.row(k);
        continue;
      }
      float* __restrict others = others_.row(k);
      const float* __restrict own = one.seen.row(k);
      const float* __restrict total = total_.row(k);
      for (int64_t c = low; c < high; ++c) others[c] = (total[c] - own[c]) * share;
      in[seen_ + k] = others;
    }
    for (int64_t k = 0; k < one.hidden.maps(); ++k) out[k] = one.hidden.row(y, k);
    const float* scene = level_.scene + s * 2 * level_.sizes.hidden;
    multiply_row(net_.hidden, in, low, high, {scene, scene + level_.sizes.hidden, true}, out);
    for (int64_t k = 0; k < one.hidden.maps(); ++k) x_.repeat(out[k]);
  }

  // The logits of a source's weight and excess, and its notes.
  void judge(int64_t s, int64_t y) {
    const float* in[kMostInputs];
    float* out[kMostOutputs];
    source& one = at(s);
    point_3x3(one.hidden, level_.sizes.hidden, y, level_.rows, in);
    for (int64_t k = 0; k < one.logits.maps(); ++k) out[k] = one.logits.row(k);
    multiply_row(net_.out, in, 0, width(), {net_.out.bias.data(), nullptr, false}, out);
  }

  int64_t width() const { return tile_.last_col - tile_.first_col; }
  const float* shown(int64_t s, int64_t y) { return y < 0 || y >= level_.rows ? blank_.row() : at(s).shown.row(y, 0); }

  // The mean over 3 x 3 of the product of two sources' coefficients.
  void mean_product(int64_t s, int64_t t, int64_t y, float* __restrict mean) {
    float* __restrict products = sums_.row(0);
    const int64_t n = width();
    std::fill(products - 1, products + n + 1, 0.0F);
    for (int64_t row = y - 1; row <= y + 1; ++row) {
      const float* __restrict one = shown(s, row);
      const float* __restrict other = shown(t, row);
      for (int64_t c = -1; c <= n; ++c) products[c] += one[c] * other[c];
    }
    constexpr float kNinth = 1.0F / 9;
    for (int64_t c = 0; c < n; ++c) mean[c] = (products[c - 1] + products[c] + products[c + 1]) * kNinth;
  }

  // Of each source its energy over 3 x 3, the product with the sum of the others, and the best match with another.
  void compare(int64_t y) {
    const int64_t n = width();
    for (int64_t s = 0; s < count_; ++s) {
      mean_product(s, s, y, at(s).energy.row());
      std::fill_n(at(s).cross.row(), n, 0.0F);
      std::fill_n(at(s).match.row(), n, 0.0F);
    }
    float* product = sums_.row(1);
    for (int64_t s = 0; s < count_; ++s) {
      for (int64_t t = s + 1; t < count_; ++t) {
        mean_product(s, t, y, product);
        for (int64_t c = 0; c < n; c += kFloats) {
          const auto both = load<float_vec>(product + c);
          const auto energies = load<float_vec>(at(s).energy.row() + c) + load<float_vec>(at(t).energy.row() + c);
          const float_vec match = 2.0F * both / larger(energies, broadcast<float_vec>(kFaint));
          for (source* one : {&at(s), &at(t)}) {
            store(one->cross.row() + c, load<float_vec>(one->cross.row() + c) + both);
            store(one->match.row() + c, larger(load<float_vec>(one->match.row() + c), match));
          }
        }
      }
    }
  }

  void gate(int64_t y) {
    compare(y);
    const auto sources = static_cast<float>(count_);
    const float sharpness = count_ == 2 ? 1.0F : std::log2(sources);
    const float_vec faint = broadcast<float_vec>(kFaint), one_vec = broadcast<float_vec>(1.0F);
    const float_vec equal = broadcast<float_vec>(2 / sources);
    for (int64_t c = 0; c < width(); c += kFloats) {
      float_vec energies{}, crosses{}, greatest{}, highest = load<float_vec>(at(0).logits.row(0) + c);
      for (source& one : sources_) {
        const auto energy = load<float_vec>(one.energy.row() + c);
        energies += energy;
        greatest = larger(greatest, energy);
        crosses += load<float_vec>(one.cross.row() + c);
        highest = larger(highest, load<float_vec>(one.logits.row(0) + c));
      }
      float_vec powers{};
      for (source& one : sources_) {
        const float_vec power = exponential((load<float_vec>(one.logits.row(0) + c) - highest) * sharpness);
        store(one.gate.row() + c, power);
        powers += power;
      }
      const float_vec match = crosses / larger(energies * (sources - 1), faint);
      const float_vec mismatch = one_vec - larger(float_vec{}, smaller(match, one_vec));
      const float_vec whole = one_vec / larger(energies, faint), strongest = one_vec / larger(greatest, faint);
      for (source& one : sources_) {
        const auto energy = load<float_vec>(one.energy.row() + c);
        const float_vec weight = load<float_vec>(one.gate.row() + c) / powers;
        const float_vec twice = exponential(2.0F * load<float_vec>(one.logits.row(1) + c));
        const float_vec excess = one_vec - 2.0F / (twice + 1.0F);  // the hyperbolic tangent
        float_vec gate = weight + mismatch * (excess * equal);
        if (!is_top()) {
          gate = at_least(gate, mismatch, equal);
          if (count_ > 2) {
            const float_vec own = one_vec - smaller(load<float_vec>(one.match.row() + c), one_vec);
            const float_vec share = smaller(larger(2.0F * energy * whole, equal), one_vec);
            gate = larger(gate, at_least(weight + own * (excess * share), own, share));
          }
          const float_vec opposed = -2.0F * load<float_vec>(one.cross.row() + c) * whole;
          const float_vec opposition = larger(float_vec{}, smaller(opposed, one_vec));
          gate *= one_vec - opposition * (one_vec - energy * strongest);
        }
        store(one.gate.row() + c, gate);
      }
    }
  }

  // A gate raised to the least for this share, as far as there is no match.
  static float_vec at_least(float_vec gate, float_vec mismatch, float_vec share) {
    float_vec root;
    for (int lane = 0; lane < kFloats; ++lane) root[lane] = std::sqrt(share[lane]);
    return gate + mismatch * larger(kLeastGate * root - gate, float_vec{});
  }

  void write(int64_t y) {
    const int64_t n = width();
    float* __restrict fused = sums_.row(0);
    if (is_top()) {
      std::fill(fused, fused + n, 0.0F);
    } else {
      expand(level_.below, 0, y, 0, n, fused);
    }
    float* __restrict details = sums_.row(1);
    std::fill(details, details + n, 0.0F);
    for (int64_t s = 0; s < count_; ++s) {
      const float* __restrict shown = at(s).shown.row(y, 0);
      const float* __restrict gate = at(s).gate.row();
      for (int64_t c = 0; c < n; ++c) details[c] += gate[c] * shown[c];
    }
    for (int64_t c = 0; c < n; ++c) fused[c] += details[c];
    if (is_finest()) {
      const float* __restrict above = brightest_.row(std::max<int64_t>(y - 1, 0), 0);
      const float* __restrict here = brightest_.row(y, 0);
      const float* __restrict below = brightest_.row(std::min(y + 1, level_.rows - 1), 0);
      for (int64_t c = -1; c <= n; ++c) details[c] = std::max(std::max(above[c], below[c]), here[c]);
      for (int64_t c = 0; c < n; ++c) {
        fused[c] = std::min(fused[c], 2 * std::max(std::max(details[c - 1], details[c + 1]), details[c]));
      }
    }
    const auto bytes = static_cast<std::size_t>(n) * sizeof(float);
    std::memcpy(level_.fused.row(0, y) + tile_.first_col, fused, bytes);
    for (int64_t s = 0; s < count_; ++s) {
      for (int64_t k = 0; k < level_.sizes.written; ++k) {
        float* to = level_.handed.row(s * level_.sizes.written + k, y) + tile_.first_col;
        std::memcpy(to, at(s).logits.row(2 + k), bytes);
      }
      if (!level_.gates.empty()) std::memcpy(level_.gates.row(s, y) + tile_.first_col, at(s).gate.row(), bytes);
    }
  }

  const fusion_level& level_;
  const packed_network& net_;
  const fusion_tile& tile_;
  const columns x_;
  const int64_t count_;
  int64_t seen_ = 0;
  std::vector<source> sources_;
  line total_, others_, sums_, blank_;
  ring brightest_;
  expansion expansion_;
};

void run_level(const fusion_level& level, const packed_network& net, const fusion_tile& tile) {
  level_tile(level, net, tile).run();
}

// The sum of a row's values, and of their products with another's.
double sum_of(const float* __restrict row, int64_t count) {
  float_vec total{};
  int64_t x = 0;
  for (; x + kFloats <= count; x += kFloats) total += load<float_vec>(row + x);
  double result = 0;
  for (; x < count; ++x) result += row[x];
  for (int lane = 0; lane < kFloats; ++lane) result += total[lane];
  return result;
}

double product_of(const float* __restrict row, const float* __restrict other, int64_t count) {
  float_vec total{};
  int64_t x = 0;
  for (; x + kFloats <= count; x += kFloats) total += load<float_vec>(row + x) * load<float_vec>(other + x);
  double result = 0;
  for (; x < count; ++x) result += row[x] * other[x];
  for (int lane = 0; lane < kFloats; ++lane) result += total[lane];
  return result;
}

void run_survey(const fusion_survey& survey, const packed_network& net, const packed_layer& parts, int64_t image,
                const fusion_tile& tile, double* sums) {
  const columns x{tile.first_col, tile.last_col, survey.images.cols};
  const int64_t channels = survey.channels, n = tile.last_col - tile.first_col;
  const auto bytes = static_cast<std::size_t>(n) * sizeof(float);
  branch looks;
  line seen, strengths, sum;  // of sum: mean of the features, brightness, energy
  memory& from = own_memory();
  from.lay_out([&] {
    looks.lay_out(from, channels, x);
    seen.lay_out(from, channels, x);
    strengths.lay_out(from, survey.ranks, x);
    sum.lay_out(from, 4, x);
  });
  looks.start(survey.images.row(image, 0), survey.images.row_stride, survey.images.rows, tile.first_row);
  float* maps[kMostOutputs];
  float* strength[kMostOutputs];
  for (int64_t c = 0; c < seen.maps(); ++c) maps[c] = seen.row(c);
  for (int64_t r = 0; r < strengths.maps(); ++r) strength[r] = strengths.row(r);
  for (int64_t y = tile.first_row; y < tile.last_row; ++y) {
    looks.features(y, 0, net, x, maps);
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += sum_of(maps[c], n);
      sums[channels + c] += product_of(maps[c], maps[c], n);
      if (!survey.features.empty()) std::memcpy(survey.features.row(image * channels + c, y) + x.first, maps[c], bytes);
    }
    if (survey.parts == nullptr) continue;
    multiply_row(parts, maps, 0, n, {parts.bias.data(), nullptr, false}, strength);
    float* __restrict mean = sum.row(0);
    float* __restrict bright = sum.row(1);
    float* __restrict energy = sum.row(2);
    std::fill(mean, mean + n, 0.0F);
    std::fill(bright, bright + n, 1.0F);
    std::fill(energy, energy + n, 0.0F);
    for (int64_t c = 0; c < channels; ++c) {
      const float* __restrict map = maps[c];
      for (int64_t k = 0; k < n; ++k) mean[k] += map[k];
    }
    for (int64_t s = 0; s < survey.images.batch; ++s) {
      const float* __restrict pixels = survey.images.row(s, y) + x.first;
      for (int64_t k = 0; k < n; ++k) bright[k] *= std::max(pixels[k], 0.0F);
    }
    for (int64_t r = 0; r < survey.ranks; ++r) {
      const float* __restrict map = strength[r];
      for (int64_t k = 0; k < n; ++k) energy[k] += map[k] * map[k];
      if (!survey.strengths.empty()) {
        std::memcpy(survey.strengths.row(image * survey.ranks + r, y) + x.first, map, bytes);
      }
    }
    sums[2 * channels] += product_of(mean, bright, n) / static_cast<double>(channels);
    sums[2 * channels + 1] += sum_of(bright, n);
    if (!survey.energy.empty()) std::memcpy(survey.energy.row(image, y) + x.first, energy, bytes);
  }
}

void run_halve(const image_view<const float>& images, const image_view<float>& out, int64_t image, int64_t first_row,
               int64_t last_row) {
  constexpr float kEnds = 1.0F / 16, kNext = 4.0F / 16, kMiddle = 6.0F / 16;
  const int64_t n = images.cols;
  const auto mirrored = [](int64_t i, int64_t count) {
    i = (i % (2 * count) + 2 * count) % (2 * count);
    return std::min(i, 2 * count - 1 - i);
  };
  float* wide = nullptr;  // a row between, two pixels longer at each end
  memory& from = own_memory();
  from.lay_out([&] { wide = from.take(n + 64); });
  float* __restrict t = wide + 16;
  for (int64_t y = first_row; y < last_row; ++y) {
    const float* rows[5];
    for (int64_t k = 0; k < 5; ++k) rows[k] = images.row(image, mirrored(2 * y + k - 2, images.rows));
    const float* __restrict a = rows[0];
    const float* __restrict b = rows[1];
    const float* __restrict c = rows[2];
    const float* __restrict d = rows[3];
    const float* __restrict e = rows[4];
    for (int64_t x = 0; x < n; ++x) {
      t[x] = a[x] * kEnds + b[x] * kNext + c[x] * kMiddle + d[x] * kNext + e[x] * kEnds;
    }
    for (const int64_t x : {int64_t{-2}, int64_t{-1}, n, n + 1}) t[x] = t[mirrored(x, n)];
    float* __restrict to = out.row(image, y);
    for (int64_t x = 0; x < out.cols; ++x) {
      to[x] = t[2 * x - 2] * kEnds + t[2 * x - 1] * kNext + t[2 * x] * kMiddle + t[2 * x + 1] * kNext +
              t[2 * x + 2] * kEnds;
    }
  }
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA

namespace nmfuse {

template <isa kIsa>
fusion_loops get_fusion_loops() {
  return {&NMFUSE_ISA::run_level, &NMFUSE_ISA::run_survey, &NMFUSE_ISA::run_halve};
}

template fusion_loops get_fusion_loops<kThisIsa>();

}  // namespace nmfuse
