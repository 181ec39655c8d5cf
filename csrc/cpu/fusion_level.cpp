#include "nmfuse/fusion_level.h"

#include <algorithm>

#include "cpu/fusion_level_isa.h"
#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

constexpr std::int64_t kGroup = 4;           // outputs that are computed together; what is left, two by two
constexpr std::int64_t kColumnBytes = 1000;  // of a source's rows that a tile keeps, for each column
constexpr std::int64_t kTileBytes = 1 << 20;
constexpr std::int64_t kLeastColumns = 64, kMostColumns = 512, kLeastRows = 64, kMostRows = 256;

packed_layer pack(const float* weights, const float* bias, std::int64_t outputs, std::int64_t inputs) {
  packed_layer layer{inputs, outputs, {}, {}};
  const std::int64_t even = (outputs + 1) / 2 * 2;
  layer.weights.assign(static_cast<std::size_t>(even * inputs), 0.0F);
  layer.bias.assign(static_cast<std::size_t>(even), 0.0F);
  for (std::int64_t o = 0; o < outputs; ++o) {
    const std::int64_t first = even - o / kGroup * kGroup >= kGroup ? o / kGroup * kGroup : o / 2 * 2;
    const std::int64_t group = even - first >= kGroup ? kGroup : 2;
    for (std::int64_t k = 0; k < inputs; ++k) {
      layer.weights[static_cast<std::size_t>(first * inputs + k * group + (o - first))] = weights[o * inputs + k];
    }
    if (bias != nullptr) layer.bias[static_cast<std::size_t>(o)] = bias[o];
  }
  return layer;
}

// Packs the branch and returns where the weights go on.
const float* pack_branch(const float* weights, std::int64_t channels, packed_network& net) {
  for (int k = 0; k < 3; ++k) {
    const std::int64_t inputs = 9 * (k == 0 ? 1 : channels);
    net.branch[k] = pack(weights, weights + channels * inputs, channels, inputs);
    weights += channels * inputs + channels;
  }
  return weights;
}

packed_network pack_network(const fusion_sizes& sizes, const float* weights) {
  packed_network net;
  const float* head = pack_branch(weights, sizes.channels, net);
  const std::int64_t seen = sizes.channels + 1 + sizes.read, outputs = 2 + sizes.written;
  std::vector<float> both(static_cast<std::size_t>(sizes.hidden * 2 * seen));
  for (std::int64_t o = 0; o < sizes.hidden; ++o) {
    std::copy_n(head + o * seen, seen, both.begin() + o * 2 * seen);
    std::copy_n(head + (sizes.hidden + o) * seen, seen, both.begin() + o * 2 * seen + seen);
  }
  net.hidden = pack(both.data(), nullptr, sizes.hidden, 2 * seen);
  const float* out = head + 2 * sizes.hidden * seen;
  net.out = pack(out, out + outputs * 9 * sizes.hidden, outputs, 9 * sizes.hidden);
  return net;
}

// Tiles that cover an area: wide enough to share what they look at, narrow enough that a cache holds their rows.
std::vector<fusion_tile> tiles_of(const fusion_tile& area, std::int64_t sources, std::int64_t threads) {
  const std::int64_t rows = area.last_row - area.first_row, cols = area.last_col - area.first_col;
  const std::int64_t most = std::clamp(kTileBytes / (kColumnBytes * sources), kLeastColumns, kMostColumns);
  const std::int64_t across = (cols + most - 1) / most;
  const std::int64_t width = ((cols + across - 1) / across + 15) / 16 * 16;
  const std::int64_t wanted = rows * across / (4 * threads) / 2 * 2;
  const std::int64_t height = std::clamp(wanted, kLeastRows, kMostRows);
  std::vector<fusion_tile> tiles;
  for (std::int64_t y = area.first_row; y < area.last_row; y += height) {
    for (std::int64_t x = area.first_col; x < area.last_col; x += width) {
      tiles.push_back({y, std::min(y + height, area.last_row), x, std::min(x + width, area.last_col)});
    }
  }
  return tiles;
}

fusion_loops loops() {
  return dispatch_isa([](auto which) { return get_fusion_loops<which()>(); });
}

}  // namespace

void fuse_level(const fusion_level& level, std::int64_t first_row, std::int64_t last_row, std::int64_t first_col,
                std::int64_t last_col) {
  const packed_network net = pack_network(level.sizes, level.weights);
  const auto tiles = tiles_of({first_row, last_row, first_col, last_col},
                              static_cast<std::int64_t>(level.images.size()), num_threads());
  const fusion_loops run = loops();
  parallel_for(static_cast<std::int64_t>(tiles.size()),
               [&](std::int64_t i) { run.level(level, net, tiles[static_cast<std::size_t>(i)]); });
}

void survey_fusion(const fusion_survey& survey) {
  packed_network net;
  pack_branch(survey.weights, survey.channels, net);
  packed_layer parts;
  if (survey.parts != nullptr) {
    std::vector<float> turned(static_cast<std::size_t>(survey.ranks * survey.channels));
    for (std::int64_t c = 0; c < survey.channels; ++c) {
      for (std::int64_t r = 0; r < survey.ranks; ++r) {
        turned[static_cast<std::size_t>(r * survey.channels + c)] = survey.parts[c * survey.ranks + r];
      }
    }
    parts = pack(turned.data(), nullptr, survey.ranks, survey.channels);
  }
  // Tiles of their own, whatever the number of threads: sums are added up in their order.
  const auto tiles = tiles_of({survey.first_row, survey.last_row, 0, survey.images.cols}, 1, survey.images.rows);
  const auto each = static_cast<std::int64_t>(tiles.size()), width = 2 * survey.channels + 2;
  std::vector<double> sums(static_cast<std::size_t>(survey.images.batch * each * width));
  const fusion_loops run = loops();
  parallel_for(survey.images.batch * each, [&](std::int64_t i) {
    run.survey(survey, net, parts, i / each, tiles[static_cast<std::size_t>(i % each)], sums.data() + i * width);
  });
  for (std::int64_t i = 0; i < survey.images.batch * each; ++i) {
    for (std::int64_t k = 0; k < width; ++k) {
      survey.sums[i / each * width + k] += sums[static_cast<std::size_t>(i * width + k)];
    }
  }
}

void halve_images(image_view<const float> images, image_view<float> out) {
  const std::int64_t step = std::clamp<std::int64_t>((1 << 15) / std::max<std::int64_t>(1, out.cols), 8, 256);
  const std::int64_t each = (out.rows + step - 1) / step;
  const fusion_loops run = loops();
  parallel_for(images.batch * each, [&](std::int64_t i) {
    const std::int64_t first = i % each * step;
    run.halve(images, out, i / each, first, std::min(first + step, out.rows));
  });
}

}  // namespace nmfuse
