# The tests on CUDA devices: the cases of chalk_tests and those of this folder, linked with the CUDA
# backend in place of second_device.cpp. Emulated on every machine, plain and watched by sanitizers;
# on a GPU where one is.
set(CHALK_KERNEL_TESTS "" CACHE STRING
    "Tests of CUDA kernels: all, PLAIN (emulated without sanitizers), or OFF")
if(CHALK_KERNEL_TESTS STREQUAL OFF)
  return()
endif()
file(GLOB CUDA_TEST_SOURCES CONFIGURE_DEPENDS tests/cuda/*_test.cpp)
add_library(cuda_test_cases OBJECT ${CUDA_TEST_SOURCES})
target_link_libraries(cuda_test_cases PUBLIC fer_program doctest::doctest)
target_compile_definitions(cuda_test_cases PRIVATE
                           $<TARGET_PROPERTY:test_cases,INTERFACE_COMPILE_DEFINITIONS>)

# cuda_test_program(NAME BACKEND): the program, of that library of kernels.
function(cuda_test_program name backend)
  add_executable(${name} tests/cuda/cuda_kernels.cpp)
  target_link_libraries(${name} PRIVATE test_cases cuda_test_cases ${backend})
  add_dependencies(chalk_tests ${name})  # what builds the tests builds this one
endfunction()

# cuda_tests(PROGRAM PREFIX SUBJECTS ENVIRONMENT [OPTIONS ...] [CONFIGURATIONS ...]): a ctest entry
# PREFIX_SUBJECT for each subject; the options are the program's.
function(cuda_tests program prefix subjects environment)
  cmake_parse_arguments(PARSE_ARGV 4 given "" "" "OPTIONS;CONFIGURATIONS")
  if(given_CONFIGURATIONS)
    set(only CONFIGURATIONS ${given_CONFIGURATIONS})
  endif()
  foreach(subject ${subjects})
    add_test(NAME ${prefix}_${subject} ${only}
             COMMAND ${program} --source-file=*/${subject}_test.cpp --minimal ${given_OPTIONS}
             WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
    set_property(TEST ${prefix}_${subject} PROPERTY ENVIRONMENT
                 CHALK_TF32=0 GOMP_SPINCOUNT=1000 ${environment})
  endforeach()
endfunction()

set(KERNEL_SUBJECTS operations layers optim)
foreach(source ${CUDA_TEST_SOURCES})
  get_filename_component(subject ${source} NAME_WE)
  string(REPLACE "_test" "" subject ${subject})
  list(APPEND KERNEL_SUBJECTS ${subject})
endforeach()
set(WHOLE_SUBJECTS network property devices)
list(REMOVE_ITEM KERNEL_SUBJECTS ${WHOLE_SUBJECTS})

# Emulated. Threads and blocks in three orders; streams that work as late as they may. Sanitizers
# watch the kernels, which makes rungs and whole networks slow: less of those. `ctest -C long` adds
# ThreadSanitizer.
cuda_test_program(cuda_on_cpu_tests chalk_cuda_on_cpu)
cuda_tests(cuda_on_cpu_tests on_cpu "${KERNEL_SUBJECTS};${WHOLE_SUBJECTS}"
           "CHALK_CUDA_POISON=1;CHALK_TRIALS=300")
foreach(order reverse shuffle)
  cuda_tests(cuda_on_cpu_tests on_cpu_${order} "${KERNEL_SUBJECTS}"
             "EMU_ORDER=${order};EMU_DEFER=1")
endforeach()
if(NOT CHALK_KERNEL_TESTS STREQUAL PLAIN)
  set(quick OPTIONS "--test-case-exclude=*on every rung,gradcheck table")
  cuda_test_program(cuda_on_cpu_asan_tests chalk_cuda_on_cpu_asan)
  cuda_tests(cuda_on_cpu_asan_tests on_cpu_asan "${KERNEL_SUBJECTS};network;property"
             "ASAN_OPTIONS=detect_leaks=0;CHALK_TRIALS=40;CHALK_NETWORK_STEPS=1" ${quick})
  cuda_test_program(cuda_on_cpu_tsan_tests chalk_cuda_on_cpu_tsan)
  cuda_tests(cuda_on_cpu_tsan_tests on_cpu_tsan "${KERNEL_SUBJECTS}" OMP_NUM_THREADS=1
             ${quick},every*sizes*,every*of*what* CONFIGURATIONS long)
endif()

# On a GPU, by nvcc.
if(TARGET chalk_cuda)
  cuda_test_program(cuda_tests chalk_cuda)
  execute_process(COMMAND nvidia-smi -L RESULT_VARIABLE no_gpu OUTPUT_QUIET ERROR_QUIET)
  if(NOT no_gpu)
    cuda_tests(cuda_tests on_gpu "${KERNEL_SUBJECTS};${WHOLE_SUBJECTS}" CHALK_CUDA_POISON=1)
  endif()
endif()

include(tests/cuda/planted/planted.cmake)
include(tests/cuda/mutants.cmake)
