# The target `mutants`: the tests with each barrier and each wait of the kernels left out in turn.
set(MUTANTS ${CMAKE_BINARY_DIR}/mutants)
set(MUTANTS_SCRIPT ${CMAKE_SOURCE_DIR}/tests/cuda/mutants.sh)
file(GLOB KERNELS CONFIGURE_DEPENDS cuda/*.cu cuda/*.cuh)
add_custom_command(OUTPUT ${MUTANTS}/sites COMMAND ${MUTANTS_SCRIPT} copy ${MUTANTS}
                   DEPENDS ${MUTANTS_SCRIPT} ${KERNELS})
add_custom_target(mutated_kernels DEPENDS ${MUTANTS}/sites)

function(mutants_program name)
  cuda_on_cpu(chalk_${name} ${ARGN})
  target_include_directories(chalk_${name} BEFORE PRIVATE ${MUTANTS})
  add_dependencies(chalk_${name} mutated_kernels)
  add_executable(${name} EXCLUDE_FROM_ALL tests/cuda/cuda_kernels.cpp)
  target_link_libraries(${name} PRIVATE test_cases cuda_test_cases chalk_${name} chalk)
  add_dependencies(${name} fer)  # some tests run the program
endfunction()
mutants_program(mutants_plain)
mutants_program(mutants_tsan thread)
add_custom_target(mutants
                  COMMAND ${MUTANTS_SCRIPT} $<TARGET_FILE:mutants_plain> $<TARGET_FILE:mutants_tsan>
                          ${MUTANTS}
                  DEPENDS mutants_plain mutants_tsan USES_TERMINAL)
