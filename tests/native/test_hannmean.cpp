// hannmean, its adjoint and reject_outliers without an interpreter, against plain loops in double: what the sanitizers
// run.
#include <limits>
#include <stdexcept>

#include "nmfuse/hannmean.h"
#include "planes.h"

namespace nmfuse {
namespace {

struct shape {
  int64_t batch, rows, cols;
  int64_t depth = 1;  // divides batch
};

std::string text(const shape& s, int size, bool masked) {
  return std::to_string(s.batch) + "x" + std::to_string(s.rows) + "x" + std::to_string(s.cols) + " depth " +
         std::to_string(s.depth) + " size " + std::to_string(size) + (masked ? " masked" : "");
}

template <class T>
T random_value() {
  if constexpr (std::is_floating_point_v<T>) return static_cast<T>(2 * uniform() - 0.5);
  return static_cast<T>(uniform() * std::numeric_limits<T>::max());
}

template <class T>
planes<T> random_planes(const shape& s, int64_t pad = 0) {
  planes<T> x(s.batch, s.rows, s.cols, pad);
  x.fill([](int64_t, int64_t, int64_t) { return random_value<T>(); });
  return x;
}

// Half of the pixels are reliable, and a corner without any.
planes<uint8_t> random_codes(const shape& s, int64_t pad = 0) {
  planes<uint8_t> codes(s.batch, s.rows, s.cols, pad);
  codes.fill([](int64_t, int64_t y, int64_t c) {
    const double u = uniform();
    if (u < 0.5) return y < 6 && c < 6 ? kUnreliable : kReliable;
    return u < 0.8 ? kUnreliable : kBackground;
  });
  return codes;
}

int64_t reflect(int64_t i, int64_t n) {
  i %= 2 * n;
  if (i < 0) i += 2 * n;
  return std::min(i, 2 * n - 1 - i);
}

template <class T>
double tolerance(int size) {
  if (std::is_same_v<T, double>) return 1e-13;
  if (std::is_same_v<T, float>) return std::numeric_limits<float>::epsilon() * (16.0 + size);
  return std::is_same_v<T, uint8_t> ? 0.501 : 0.52;  // rounded to an integer; float's share of 65535
}

double hann(int size, int i) { return (1 - std::cos(2 * std::acos(-1.0) * (i + 1) / (size + 1))) / (size + 1); }

// Calls visit(plane, row, column, k, i, j) for the window of a pixel; k is 0 for an image.
template <class Visit>
void for_each_neighbour(const shape& s, int size, int64_t b, int64_t y, int64_t c, const Visit& visit) {
  const int half = size / 2;
  const int64_t z = b % s.depth, volume = b - z;
  for (int k = s.depth > 1 ? 0 : half; k < (s.depth > 1 ? size : half + 1); ++k) {
    for (int i = 0; i < size; ++i) {
      for (int j = 0; j < size; ++j) {
        visit(volume + reflect(z + k - half, s.depth), reflect(y + i - half, s.rows), reflect(c + j - half, s.cols), k,
              i, j);
      }
    }
  }
}

template <class T>
void check_hannmean(const shape& s, int size, bool masked, int64_t pad = 0) {
  const std::string what = "hannmean<" + std::to_string(sizeof(T)) + "> " + text(s, size, masked);
  planes<T> x = random_planes<T>(s, pad), out(s.batch, s.rows, s.cols, pad);
  const planes<uint8_t> codes = random_codes(s, pad);
  if constexpr (std::is_floating_point_v<T>) {  // an ignored NaN does no harm
    for (int64_t c = 0; masked && c < s.cols; ++c) {
      if (codes.at(0, s.rows / 2, c) == kUnreliable) x.at(0, s.rows / 2, c) = T(NAN);
    }
  }
  const auto mask = masked ? image_view<const uint8_t>(codes.view) : image_view<const uint8_t>{};
  run_alike(out, what, [&] { hannmean<T>(x.view, mask, size, s.depth, out.view, nullptr); });

  std::vector<double> taps(static_cast<std::size_t>(size));
  for (int i = 0; i < size; ++i) taps[i] = hann(size, i);
  double worst = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t y = 0; y < s.rows; ++y) {
      for (int64_t c = 0; c < s.cols; ++c) {
        double sum = 0, weight = 0;
        for_each_neighbour(s, size, b, y, c, [&](int64_t plane, int64_t row, int64_t col, int k, int i, int j) {
          if (masked && codes.at(plane, row, col) != kReliable) return;
          const double w = taps[i] * taps[j] * (s.depth > 1 ? taps[k] : 1);
          sum += w * static_cast<double>(x.at(plane, row, col));
          weight += w;
        });
        const bool keeps = weight == 0 || (masked && codes.at(b, y, c) == kBackground);
        const double expected = keeps ? static_cast<double>(x.at(b, y, c)) : sum / weight;
        const double got = static_cast<double>(out.at(b, y, c));
        if (!std::isnan(expected) || !std::isnan(got)) worst = worse(worst, std::abs(got - expected));
      }
    }
  }
  expect(worst <= tolerance<T>(size), what + ": differs by " + std::to_string(worst));
  expect(out.padding_is_poison(), what + ": wrote between the rows");
}

template <class T>
void check_adjoint(const shape& s, int size, bool masked) {
  const std::string what = "hannmean_adjoint<" + std::to_string(sizeof(T)) + "> " + text(s, size, masked);
  const planes<T> x = random_planes<T>(s, 2), grad = random_planes<T>(s, 3);
  planes<T> y(s.batch, s.rows, s.cols), back(s.batch, s.rows, s.cols, 4);
  const planes<uint8_t> codes = random_codes(s, 1);
  const auto mask = masked ? image_view<const uint8_t>(codes.view) : image_view<const uint8_t>{};
  hannmean<T>(x.view, mask, size, s.depth, y.view, nullptr);
  run_alike(back, what, [&] {
    scratch<T> workspace(hannmean_adjoint_workspace<T>(s.batch, s.rows, s.cols));
    hannmean_adjoint<T>(grad.view, mask, size, s.depth, back.view, workspace.view(), nullptr);
  });
  const double difference = std::abs(dot(y, grad) - dot(x, back));
  const double pixels = static_cast<double>(s.batch * s.rows * s.cols);
  expect(difference <= 20 * std::numeric_limits<T>::epsilon() * pixels,
         what + ": <Ax, y> - <x, A'y> = " + std::to_string(difference));
  expect(back.padding_is_poison(), what + ": wrote between the rows");
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

template <class T>
void check_reject_outliers(const shape& s, int size, double k) {
  const std::string what = "reject_outliers<" + std::to_string(sizeof(T)) + "> " + text(s, size, false);
  planes<T> x = random_planes<T>(s, 1);
  planes<uint8_t> codes = random_codes(s, 2);
  if constexpr (std::is_floating_point_v<T>) {
    const T bad[] = {T(NAN), T(INFINITY), T(-INFINITY)};
    x.fill([&](int64_t b, int64_t y, int64_t c) {
      const double u = uniform();
      if (u < 0.03) return bad[static_cast<int>(100 * u)];
      return u > 0.8 ? std::round(x.at(b, y, c)) : x.at(b, y, c);  // many equal values
    });
  }
  const planes<uint8_t> before = codes;
  reject_outliers<T>(
      x.view, size, s.depth, k,
      image_view<uint8_t>{codes.memory.data(), s.batch, s.rows, s.cols, codes.view.batch_stride, codes.view.row_stride},
      nullptr);
  int wrong = 0, marked = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t y = 0; y < s.rows; ++y) {
      for (int64_t c = 0; c < s.cols; ++c) {
        std::vector<double> window;
        for_each_neighbour(s, size, b, y, c, [&](int64_t plane, int64_t row, int64_t col, int, int, int) {
          const double neighbour = static_cast<double>(x.at(plane, row, col));
          if (std::isfinite(neighbour)) window.push_back(neighbour);
        });
        const double value = static_cast<double>(x.at(b, y, c));
        bool outlier = !std::isfinite(value);
        if (!outlier) {
          const double centre = median(window);
          for (double& w : window) w = std::abs(w - centre);
          outlier = std::abs(value - centre) > k * 1.4826 * median(window);
        }
        const std::size_t here =
            static_cast<std::size_t>(b * before.view.batch_stride + y * before.view.row_stride + c);
        const uint8_t was = before.memory[here], expected = outlier && was == kReliable ? kUnreliable : was;
        wrong += codes.memory[here] != expected;
        marked += expected != was;
      }
    }
  }
  expect(wrong == 0, what + ": " + std::to_string(wrong) + " wrong codes");
  expect(marked > 0 || s.rows * s.cols < 100, what + ": the test marks nothing");
  expect(codes.padding_is_poison(), what + ": wrote between the rows");
}

void check_nan_stays_local() {
  planes<float> x(7, 40, 600), out(7, 40, 600);
  planes<uint8_t> codes(7, 40, 600);
  x.fill([](int64_t, int64_t, int64_t) { return 1.0; });
  codes.fill([](int64_t, int64_t, int64_t) { return kReliable; });
  x.at(3, 20, 510) = NAN;
  for (const int64_t depth : {1, 7}) {
    hannmean<float>(x.view, {}, 5, depth, out.view, nullptr);
    const auto nans = std::count_if(out.memory.begin(), out.memory.end(), [](float v) { return std::isnan(v); });
    expect(nans == (depth == 1 ? 25 : 125), "a NaN reaches its window only");
    codes.at(3, 20, 510) = kUnreliable;
    hannmean<float>(x.view, codes.view, 5, depth, out.view, nullptr);
    const bool all_one =
        std::all_of(out.memory.begin(), out.memory.end(), [](float v) { return std::abs(v - 1) < 1e-6F; });
    expect(all_one, "an ignored NaN does no harm and is filled");
  }
}

void check_empty() {
  float sentinel = 5;
  for (const image_view<float>& out :
       {image_view<float>{&sentinel, 0, 4, 4, 16, 4}, image_view<float>{&sentinel, 1, 0, 4, 0, 4},
        image_view<float>{&sentinel, 1, 4, 0, 0, 0}}) {
    hannmean<float>(out, {}, 3, 1, out, nullptr);
    hannmean_adjoint<float>(out, {}, 3, 1, out, {}, nullptr);
  }
  expect(sentinel == 5, "empty views are left alone");
}

void check_refused() {
  planes<float> x(4, 3, 3), out(4, 3, 3);
  planes<uint8_t> codes(4, 3, 3);
  codes.fill([](int64_t, int64_t, int64_t) { return kReliable; });
  const auto refuses = [](const auto& call) {
    try {
      call();
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  expect(refuses([&] { hannmean<float>(x.view, {}, 3, 3, out.view, nullptr); }), "a depth that does not divide");
  expect(refuses([&] { hannmean_adjoint<float>(x.view, codes.view, 3, 1, out.view, {}, nullptr); }), "no workspace");
}

template <class T>
void test_mean() {
  for (const int size : {3, 5, 7, 9, 15, 11, 63}) {
    for (const bool masked : {false, true}) {
      for (const shape& s : {shape{1, 1, 1}, shape{2, 37, 21}, shape{1, 3, 64}}) check_hannmean<T>(s, size, masked);
      check_hannmean<T>({2, 17, 20}, size, masked, 4);
    }
  }
  for (const bool masked : {false, true}) {
    check_hannmean<T>({1, 70, 520}, 5, masked);      // several tiles
    check_hannmean<T>({65, 2, 3}, 3, masked, 1);     // more tiles than blocks
    check_hannmean<T>({1, 40, 256}, 13, masked, 3);  // not aligned
    check_hannmean<T>({1, 5, 1037}, 7, masked, 1);   // several strips
    check_hannmean<T>({1, 130, 9}, 3, masked);       // several bands
    for (const int size : {3, 5, 7, 9, 11}) {
      check_hannmean<T>({2, 5, 3, 2}, size, masked, 1);
      check_hannmean<T>({14, 6, 19, 7}, size, masked, 4);  // two volumes
      check_hannmean<T>({5, 1, 1, 5}, size, masked);
    }
    check_hannmean<T>({3, 2, 520, 3}, 3, masked);
    check_hannmean<T>({130, 2, 3, 65}, 3, masked, 1);
    check_hannmean<T>({2, 70, 5, 2}, 5, masked, 3);
  }
}

}  // namespace
}  // namespace nmfuse

int main(int count, char**) {
  using namespace nmfuse;
  if (count > 1) {  // any argument: enough to tell a broken kernel
    check_hannmean<float>({2, 37, 21}, 5, true, 4);
    check_hannmean<float>({1, 70, 520}, 5, false);
    check_hannmean<float>({65, 2, 3}, 3, true, 1);
    check_hannmean<float>({10, 9, 21, 5}, 5, true, 4);
    check_hannmean<float>({6, 9, 21, 3}, 3, false, 4);
    check_reject_outliers<float>({4, 5, 7, 4}, 3, 1.5);
    return failures;
  }
  test_mean<float>();
  test_mean<double>();
  test_mean<uint8_t>();
  test_mean<std::uint16_t>();
  for (const bool masked : {false, true}) {
    for (const int size : {3, 9, 63}) {
      check_adjoint<float>({2, 35, 33}, size, masked);
      check_adjoint<double>({1, 5, 270}, size, masked);
      check_adjoint<double>({1, 1, 2}, size, masked);
    }
    for (const int size : {3, 5, 9}) {
      check_adjoint<float>({14, 6, 19, 7}, size, masked);
      check_adjoint<double>({3, 3, 70, 3}, size, masked);
    }
  }
  for (const int size : {3, 5, 11}) {
    check_reject_outliers<float>({2, 11, 35}, size, 1.5);
    check_reject_outliers<double>({1, 9, 21}, size, 1.5);
    check_reject_outliers<uint8_t>({1, 17, 21}, size, 1.5);
    check_reject_outliers<std::uint16_t>({1, 9, 33}, size, 1.5);
  }
  check_reject_outliers<double>({1, 3, 4}, 63, 1.5);
  check_reject_outliers<float>({63, 2, 3}, 3, 1.5);
  check_reject_outliers<float>({6, 9, 35, 3}, 3, 1.5);
  check_reject_outliers<double>({4, 5, 7, 4}, 5, 1.5);
  check_reject_outliers<uint8_t>({3, 11, 11, 3}, 3, 1.5);
  check_reject_outliers<std::uint16_t>({2, 9, 12, 2}, 3, 1.5);
  check_nan_stays_local();
  check_empty();
  check_refused();
#if defined(NMFUSE_SIMT)
  simt::set_order_seed(11);
  check_hannmean<float>({2, 37, 21}, 5, true);
  check_hannmean<float>({6, 37, 21, 3}, 5, true);
#endif
  if (failures == 0) std::puts("hannmean: all passed");
  return std::min(failures, 100);
}
