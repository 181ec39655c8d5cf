#include "nmfuse/information.h"

#include "cpu/information_isa.h"
#include "cpu/isa.h"
#include "nmfuse/parallel.h"

namespace nmfuse {

template <class T>
void window_information(image_view<const T> x, image_view<const T> y, image_view<float> out, stream_handle) {
  if (out.empty()) return;
  const information_row<T> write_row = dispatch_isa([](auto which) { return get_information_row<which(), T>(); });
  parallel_for(out.batch * out.rows, [&](std::int64_t i) { write_row(x, y, out, i / out.rows, i % out.rows); });
}

template void window_information(image_view<const float>, image_view<const float>, image_view<float>, stream_handle);
template void window_information(image_view<const double>, image_view<const double>, image_view<float>, stream_handle);

}  // namespace nmfuse
