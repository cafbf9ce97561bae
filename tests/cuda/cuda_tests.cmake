# The tests on CUDA devices: the cases of chalk_tests and those of this folder, linked with the CUDA
# backend in place of second_device.cpp. Emulated on every machine, plain and watched by sanitizers;
# on a GPU where one is.
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

# cuda_tests(PROGRAM PREFIX SUBJECTS ENVIRONMENT [MORE...]): a ctest entry PREFIX_SUBJECT for each
# subject; MORE goes to add_test().
function(cuda_tests program prefix subjects environment)
  foreach(subject ${subjects})
    add_test(NAME ${prefix}_${subject} ${ARGN}
             COMMAND ${program} --source-file=*/${subject}_test.cpp --minimal
             WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
    set_property(TEST ${prefix}_${subject} PROPERTY ENVIRONMENT
                 CHALK_TF32=0 GOMP_SPINCOUNT=1000 ${environment})
  endforeach()
endfunction()

set(KERNEL_SUBJECTS operations fused_operations layers optim)
foreach(source ${CUDA_TEST_SOURCES})
  get_filename_component(subject ${source} NAME_WE)
  string(REPLACE "_test" "" subject ${subject})
  list(APPEND KERNEL_SUBJECTS ${subject})
endforeach()
set(WHOLE_SUBJECTS network property devices)
list(REMOVE_ITEM KERNEL_SUBJECTS ${WHOLE_SUBJECTS})

# Emulated. Threads and blocks in three orders; streams that work as late as they may. Sanitizers
# watch the kernels, which makes a whole network slow: less of that. `ctest -C long` adds
# ThreadSanitizer. Builds that are slow as a whole, or only there to see warnings, have a few.
cuda_test_program(cuda_on_cpu_tests chalk_cuda_on_cpu)
if(CMAKE_CROSSCOMPILING OR CHALK_SANITIZE OR NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  cuda_tests(cuda_on_cpu_tests on_cpu "operations;captured_step" CHALK_CUDA_POISON=1)
else()
  cuda_tests(cuda_on_cpu_tests on_cpu "${KERNEL_SUBJECTS};${WHOLE_SUBJECTS}"
             "CHALK_CUDA_POISON=1;CHALK_TRIALS=300")
  foreach(order reverse shuffle)
    cuda_tests(cuda_on_cpu_tests on_cpu_${order} "${KERNEL_SUBJECTS}"
               "EMU_ORDER=${order};EMU_DEFER=1")
  endforeach()

  cuda_test_program(cuda_on_cpu_asan_tests chalk_cuda_on_cpu_asan)
  cuda_tests(cuda_on_cpu_asan_tests on_cpu_asan "${KERNEL_SUBJECTS};network;property"
             "ASAN_OPTIONS=detect_leaks=0;CHALK_TRIALS=40;CHALK_NETWORK_STEPS=1")

  cuda_test_program(cuda_on_cpu_tsan_tests chalk_cuda_on_cpu_tsan)
  cuda_tests(cuda_on_cpu_tsan_tests on_cpu_tsan "${KERNEL_SUBJECTS}" OMP_NUM_THREADS=1
             CONFIGURATIONS long)
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
