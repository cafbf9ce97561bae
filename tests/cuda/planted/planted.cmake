# What needs emulated kernels of its own: the emulator's tests, and mistakes that it must notice.
# Each is built three times, plain and watched by sanitizers.
function(emulated_program name source backend)
  set(file ${CMAKE_CURRENT_BINARY_DIR}/cuda_on_cpu/${name}.cpp)
  file(CONFIGURE OUTPUT ${file} CONTENT "#include \"${CMAKE_SOURCE_DIR}/tests/cuda/${source}\"\n")
  add_executable(${name} ${file} ${ARGN})
  get_target_property(options ${backend} COMPILE_OPTIONS)
  target_compile_options(${name} PRIVATE ${options})
  target_link_libraries(${name} PRIVATE ${backend} doctest::doctest)
  add_dependencies(chalk_tests ${name})
endfunction()

# Elsewhere than on this machine, by another compiler: without sanitizers and debugger.
set(BUILDS on_cpu)
if(TARGET cuda_on_cpu_asan_tests)
  list(APPEND BUILDS on_cpu_asan on_cpu_tsan)
endif()
add_library(doctest_main OBJECT tests/main.cpp)
target_link_libraries(doctest_main PRIVATE doctest::doctest)
foreach(build ${BUILDS})
  set(subjects language fragment emulator)
  if(build STREQUAL on_cpu)
    list(APPEND subjects watched)
  endif()
  foreach(subject ${subjects})
    emulated_program(${subject}_${build} ${subject}_test.cu chalk_cuda_${build}
                     $<TARGET_OBJECTS:doctest_main>)
    foreach(order forward shuffle)
      add_test(NAME ${subject}_${build}_${order} COMMAND ${subject}_${build} --minimal)
      set_property(TEST ${subject}_${build}_${order} PROPERTY ENVIRONMENT EMU_ORDER=${order})
    endforeach()
  endforeach()
  emulated_program(planted_${build} planted/planted.cu chalk_cuda_${build})
endforeach()
# What docs/cuda_without_gpu.md walks through; a debugger sees everything at -O0.
emulated_program(matmul_walk matmul_walk.cu chalk_cuda_on_cpu)
target_compile_options(matmul_walk PRIVATE -O0 -g3)
if(TARGET planted_on_cpu_tsan)
  add_test(NAME planted
           COMMAND ${CMAKE_SOURCE_DIR}/tests/cuda/planted/planted.sh
                   $<TARGET_FILE:planted_on_cpu> $<TARGET_FILE:planted_on_cpu_asan>
                   $<TARGET_FILE:planted_on_cpu_tsan>)
  add_test(NAME matmul_walk
           COMMAND ${CMAKE_SOURCE_DIR}/tests/cuda/walk.sh $<TARGET_FILE:matmul_walk>)
  set_property(TEST matmul_walk PROPERTY SKIP_RETURN_CODE 77)
endif()

# By nvcc: whether the hardware is as the emulator has it, and whether kernels spill registers.
if(TARGET chalk_cuda)
  add_executable(cuda_language_tests tests/cuda/language_test.cu tests/cuda/fragment_test.cu
                                     $<TARGET_OBJECTS:doctest_main>)
  target_link_libraries(cuda_language_tests PRIVATE chalk_cuda doctest::doctest)
  add_dependencies(chalk_tests cuda_language_tests)
  if(NOT no_gpu)
    add_test(NAME on_gpu_language COMMAND cuda_language_tests --minimal)
  endif()
endif()
find_program(NVCC nvcc HINTS /usr/local/cuda/bin)
if(NVCC)
  add_test(NAME cuda_resources CONFIGURATIONS long  # compiles all kernels: minutes
           COMMAND ${CMAKE_SOURCE_DIR}/tests/cuda/resources.sh ${NVCC})
endif()
