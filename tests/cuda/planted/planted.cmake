# What needs emulated kernels of its own: the emulator's tests, and mistakes that it must notice.
# Each is built three times, plain and watched by sanitizers.
function(emulated_program name source backend)
  set(file ${CMAKE_CURRENT_BINARY_DIR}/cuda_on_cpu/${name}.cpp)
  file(CONFIGURE OUTPUT ${file} CONTENT "#include \"${CMAKE_SOURCE_DIR}/tests/cuda/${source}\"\n")
  add_executable(${name} ${file} ${ARGN})
  get_target_property(options ${backend} COMPILE_OPTIONS)
  target_compile_options(${name} PRIVATE ${options})
  target_link_libraries(${name} PRIVATE ${backend} chalk doctest::doctest)
  add_dependencies(chalk_tests ${name})
endfunction()

add_library(doctest_main OBJECT tests/main.cpp)
target_link_libraries(doctest_main PRIVATE doctest::doctest)
foreach(build on_cpu on_cpu_asan on_cpu_tsan)
  foreach(subject language fragment emulator)
    emulated_program(${subject}_${build} ${subject}_test.cu chalk_cuda_${build}
                     $<TARGET_OBJECTS:doctest_main>)
    foreach(order forward shuffle)
      add_test(NAME ${subject}_${build}_${order} COMMAND ${subject}_${build} --minimal)
      set_property(TEST ${subject}_${build}_${order} PROPERTY ENVIRONMENT EMU_ORDER=${order})
    endforeach()
  endforeach()
  emulated_program(planted_${build} planted/planted.cu chalk_cuda_${build})
endforeach()
# The same tests of the language on a GPU: whether the hardware is as the emulator has it.
if(TARGET chalk_cuda)
  add_executable(cuda_language_tests EXCLUDE_FROM_ALL tests/cuda/language_test.cu
                                                      tests/cuda/fragment_test.cu
                                                      $<TARGET_OBJECTS:doctest_main>)
  target_link_libraries(cuda_language_tests PRIVATE chalk_cuda doctest::doctest)
endif()
add_test(NAME planted
         COMMAND ${CMAKE_SOURCE_DIR}/tests/cuda/planted/planted.sh
                 $<TARGET_FILE:planted_on_cpu> $<TARGET_FILE:planted_on_cpu_asan>
                 $<TARGET_FILE:planted_on_cpu_tsan>)
