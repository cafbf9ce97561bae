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

# cuda_tests(PROGRAM PREFIX ENVIRONMENT SUBJECT...): a ctest entry PREFIX_SUBJECT for each subject.
function(cuda_tests program prefix environment)
  foreach(subject ${ARGN})
    add_test(NAME ${prefix}_${subject}
             COMMAND ${program} --source-file=*/${subject}_test.cpp --minimal
             WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
    set_property(TEST ${prefix}_${subject} PROPERTY ENVIRONMENT
                 CHALK_TF32=0 CHALK_CUDA_POISON=1 GOMP_SPINCOUNT=1000 ${environment})
  endforeach()
endfunction()

set(CUDA_SUBJECTS operations fused_operations layers optim devices)
foreach(source ${CUDA_TEST_SOURCES})
  get_filename_component(subject ${source} NAME_WE)
  string(REPLACE "_test" "" subject ${subject})
  list(APPEND CUDA_SUBJECTS ${subject})
endforeach()

cuda_test_program(cuda_on_cpu_tests chalk_cuda_on_cpu)
cuda_tests(cuda_on_cpu_tests on_cpu "" ${CUDA_SUBJECTS} property)

include(tests/cuda/planted/planted.cmake)
include(tests/cuda/mutants.cmake)
