# The tests on CUDA devices: the same program as chalk_tests, and the cases of this folder besides,
# linked with the CUDA backend in place of second_device.cpp. Emulated on every machine, plain and
# watched by sanitizers; with a GPU where there is one.
file(GLOB CUDA_TEST_SOURCES CONFIGURE_DEPENDS tests/cuda/*_test.cpp)
add_library(cuda_test_cases OBJECT ${CUDA_TEST_SOURCES})
target_link_libraries(cuda_test_cases PUBLIC fer_program doctest::doctest)
target_precompile_headers(cuda_test_cases REUSE_FROM test_cases)

function(cuda_test_program name backend)
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/nothing.cpp CONTENT "")
  add_executable(${name} ${CMAKE_CURRENT_BINARY_DIR}/nothing.cpp)
  target_link_libraries(${name} PRIVATE test_cases cuda_test_cases ${backend} chalk)
  add_dependencies(chalk_tests ${name})  # what builds the tests builds this one
endfunction()
cuda_test_program(cuda_on_cpu_tests chalk_cuda_on_cpu)
