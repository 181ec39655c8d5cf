# nmfuse_operation(name [NO_ISA] [NO_TEST] [NO_CUDA]): an operation of csrc/nmfuse/<name>.h in every library and in the tests.
#
#   csrc/cpu/<name>.cpp           the CPU backend
#   csrc/cpu/<name>_isa.cpp       its loops, compiled once for each instruction set (none with NO_ISA)
#   csrc/cuda/<name>.cu           the CUDA backend, and the SIMT runner, which executes the same source (none with NO_CUDA)
#   tests/native/test_<name>.cpp  run on the CPU backend and, as <name>_simt, on the CUDA kernels, if any (none with NO_TEST)
#
# The libraries and tests themselves are made from these lists, each in its own place.
function(nmfuse_operation name)
  cmake_parse_arguments(PARSE_ARGV 1 operation "NO_ISA;NO_TEST;NO_CUDA" "" "")
  set_property(GLOBAL APPEND PROPERTY NMFUSE_CPU_SOURCES ${PROJECT_SOURCE_DIR}/csrc/cpu/${name}.cpp)
  if(NOT operation_NO_CUDA)
    set_property(GLOBAL APPEND PROPERTY NMFUSE_CUDA_SOURCES ${PROJECT_SOURCE_DIR}/csrc/cuda/${name}.cu)
  endif()
  if(NOT operation_NO_ISA)
    set_property(GLOBAL APPEND PROPERTY NMFUSE_ISA_SOURCES ${PROJECT_SOURCE_DIR}/csrc/cpu/${name}_isa.cpp)
  endif()
  if(NOT operation_NO_TEST)
    set_property(GLOBAL APPEND PROPERTY NMFUSE_TESTS ${name})
    if(NOT operation_NO_CUDA)
      set_property(GLOBAL APPEND PROPERTY NMFUSE_CUDA_TESTS ${name})
    endif()
  endif()
endfunction()
