#include "nmfuse/information.h"

#include "cpu/information_isa.h"
#include "cpu/isa.h"
#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

template <class T>
information_row<T> choose_row() {
#ifdef NMFUSE_X86
  switch (active_isa()) {
    case isa::avx512: return avx512::get_information_row<T>();
    case isa::avx2: return avx2::get_information_row<T>();
    case isa::baseline: break;
  }
#endif
  return baseline::get_information_row<T>();
}

}  // namespace

template <class T>
void window_information(image_view<const T> x, image_view<const T> y, image_view<float> out, stream_handle) {
  if (out.empty()) return;
  const information_row<T> write_row = choose_row<T>();
  parallel_for(out.batch * out.rows, [&](std::int64_t i) { write_row(x, y, out, i / out.rows, i % out.rows); });
}

template void window_information(image_view<const float>, image_view<const float>, image_view<float>, stream_handle);
template void window_information(image_view<const double>, image_view<const double>, image_view<float>, stream_handle);

}  // namespace nmfuse
