#pragma once

#include <pybind11/pybind11.h>

#include <tuple>
#include <vector>

#include "nmfuse/fusion_level.h"
#include "python/arguments.h"

namespace nmfuse {

// A dense float32 array of so many elements.
inline const float* numbers_of(const array& values, std::int64_t count) {
  const auto view = values.view<const float>();
  if (view.batch * view.rows != 1 || view.cols != count) {
    throw py::value_error(values.name() + ": expected shape (1, " + std::to_string(count) + ")");
  }
  return view.data;
}

inline void check_maps(const fusion_sizes& sizes) {
  require(sizes.channels >= 1 && sizes.channels <= kMostMaps && sizes.hidden <= kMostMaps && sizes.read >= 0 &&
              sizes.read <= kMostMaps / 2 && sizes.written >= 0 && 2 + sizes.written <= kMostMaps,
          "sizes: expected at most 64 maps of each kind");
}

inline void check_planes(const array& values, const image_view<const float>& view, std::int64_t planes,
                         std::int64_t rows, std::int64_t cols) {
  if (view.batch == planes && view.rows == rows && view.cols == cols) return;
  throw py::value_error(values.name() + ": expected " + std::to_string(planes) + " planes of " + std::to_string(rows) +
                        " x " + std::to_string(cols));
}

template <class Backend>
void bind_fusion_level(py::module_& module) {
  dtype_list<float>::declare(module, "fusion_level");
  module.def(
      "fusion_survey",
      [](const py::object& images, const py::object& weights, const py::object& parts, std::int64_t channels,
         const py::tuple& rows, const py::object& sums, const py::object& features, const py::object& energy,
         const py::object& strengths) {
        const op_arguments<Backend> a{py::none()};
        const array seen = a.take(images, "images"), of_branch = a.take(weights, "weights"),
                    total = a.take(sums, "sums");
        fusion_sizes sizes;
        sizes.channels = channels;
        check_maps(sizes);
        fusion_survey survey;
        survey.images = seen.view<const float>();
        survey.weights = numbers_of(of_branch, sizes.branch());
        survey.channels = channels;
        survey.first_row = rows[0].cast<std::int64_t>(), survey.last_row = rows[1].cast<std::int64_t>();
        const auto [batch, height, width] = std::tuple(survey.images.batch, survey.images.rows, survey.images.cols);
        require(batch >= 1 && 0 <= survey.first_row && survey.first_row < survey.last_row && survey.last_row <= height,
                "rows: expected rows of the images");
        const auto adding = total.view<double>();
        require(adding.batch == 1 && adding.rows == batch && adding.cols == 2 * channels + 2 &&
                    adding.row_stride == adding.cols,
                "sums: expected shape (S, 2 C + 2), contiguous");
        survey.sums = adding.data;
        std::vector<array> held;
        held.reserve(4);
        if (!parts.is_none()) {
          held.push_back(a.take(parts, "parts"));
          const auto view = held.back().view<const float>();
          survey.ranks = view.cols;
          require(view.batch == 1 && view.rows == channels && view.cols <= kMostMaps && view.row_stride == view.cols,
                  "parts: expected shape (C, R), contiguous");
          survey.parts = view.data;
        }
        const auto targets = [&](const py::object& given, const char* name, std::int64_t count) {
          if (given.is_none()) return image_view<float>{};
          held.push_back(a.take(given, name));
          const auto view = held.back().template view<float>();
          check_planes(held.back(), view, count, survey.images.rows, survey.images.cols);
          return view;
        };
        survey.features = targets(features, "features", batch * channels);
        survey.energy = targets(energy, "energy", batch);
        survey.strengths = targets(strengths, "strengths", batch * survey.ranks);
        a.run(seen, [&] { survey_fusion(survey); });
      },
      py::arg("images"), py::kw_only(), py::arg("weights"), py::arg("parts"), py::arg("channels"), py::arg("rows"),
      py::arg("sums"), py::arg("features"), py::arg("energy"), py::arg("strengths"));
  module.def(
      "halve_images",
      [](const py::object& images, const py::object& out) {
        const op_arguments<Backend> a{py::none()};
        const array seen = a.take(images, "images"), to = a.take(out, "out");
        const auto from = seen.view<const float>();
        const auto target = to.view<float>();
        check_planes(to, target, from.batch, (from.rows + 1) / 2, (from.cols + 1) / 2);
        a.run(seen, [&] { halve_images(from, target); });
      },
      py::arg("images"), py::arg("out"));
  module.def(
      "fusion_level",
      [](const py::sequence& images, const py::object& coarse, const py::object& contexts, const py::object& notes,
         const py::object& below, const py::object& features, const py::object& weights, const py::object& scene,
         std::int64_t channels, std::int64_t hidden, std::int64_t read, std::int64_t written, const py::object& fused,
         const py::object& handed, const py::object& gates, const py::tuple& rows, const py::tuple& cols) {
        const op_arguments<Backend> a{py::none()};
        fusion_level level;
        level.sizes = {channels, hidden, read, written};
        check_maps(level.sizes);
        std::vector<array> seen;
        for (const py::handle one : images) {
          seen.push_back(a.take(py::reinterpret_borrow<py::object>(one), "images"));
          const auto view = seen.back().view<const float>();
          if (level.images.empty()) level.rows = view.rows, level.cols = view.cols;
          check_planes(seen.back(), view, view.batch, level.rows, level.cols);
          for (std::int64_t s = 0; s < view.batch; ++s) {
            level.images.push_back(view.row(s, 0));
            level.image_strides.push_back(view.row_stride);
          }
        }
        const auto sources = static_cast<std::int64_t>(level.images.size());
        require(sources >= 2 && level.rows >= 1 && level.cols >= 1, "images: expected two or more planes");
        const std::int64_t coarse_rows = (level.rows + 1) / 2, coarse_cols = (level.cols + 1) / 2;

        std::vector<array> held;
        held.reserve(8);
        const auto planes = [&](const py::object& given, const char* name, std::int64_t count, bool is_coarse) {
          if (given.is_none()) return image_view<const float>{};
          held.push_back(a.take(given, name));
          const auto view = held.back().template view<const float>();
          check_planes(held.back(), view, count, is_coarse ? coarse_rows : level.rows,
                       is_coarse ? coarse_cols : level.cols);
          return view;
        };
        const auto targets = [&](const py::object& given, const char* name, std::int64_t count) {
          if (given.is_none()) return image_view<float>{};
          held.push_back(a.take(given, name));
          const auto view = held.back().template view<float>();
          check_planes(held.back(), view, count, level.rows, level.cols);
          return view;
        };
        level.coarse = planes(coarse, "coarse", sources, true);
        level.below = planes(below, "below", 1, true);
        level.notes = planes(notes, "notes", sources * read, true);
        require(level.coarse.empty() == level.below.empty() && level.notes.empty() == (read == 0) &&
                    (read == 0 || !level.coarse.empty()),
                "coarse, below, notes: expected all of them, or none at the top");
        level.contexts = planes(contexts, "contexts", sources, written == 0);
        require(!level.contexts.empty(), "contexts: expected planes");
        level.features = planes(features, "features", sources * channels, false);
        level.fused = targets(fused, "fused", 1);
        level.handed = targets(handed, "handed", sources * written);
        level.gates = targets(gates, "gates", sources);
        require(!level.fused.empty() && level.handed.empty() == (written == 0), "fused, handed: expected planes");
        const array all = a.take(weights, "weights"), of_scene = a.take(scene, "scene");
        level.weights = numbers_of(all, level.sizes.branch() + level.sizes.head());
        level.scene = numbers_of(of_scene, sources * 2 * hidden);
        const auto first_row = rows[0].cast<std::int64_t>(), last_row = rows[1].cast<std::int64_t>();
        const auto first_col = cols[0].cast<std::int64_t>(), last_col = cols[1].cast<std::int64_t>();
        require(0 <= first_row && first_row < last_row && last_row <= level.rows && 0 <= first_col &&
                    first_col < last_col && last_col <= level.cols,
                "rows, cols: expected a part of the level");
        a.run(all, [&] { fuse_level(level, first_row, last_row, first_col, last_col); });
      },
      py::arg("images"), py::kw_only(), py::arg("coarse"), py::arg("contexts"), py::arg("notes"), py::arg("below"),
      py::arg("features"), py::arg("weights"), py::arg("scene"), py::arg("channels"), py::arg("hidden"),
      py::arg("read"), py::arg("written"), py::arg("fused"), py::arg("handed"), py::arg("gates"), py::arg("rows"),
      py::arg("cols"));
}

}  // namespace nmfuse
