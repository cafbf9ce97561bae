# The CUDA backend, for a GPU by nvcc (chalk_cuda) and emulated by any C++ compiler (the function
# below). Defines chalk_devices, which programs link: the framework and its devices.
file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS cuda/*.cu)
list(REMOVE_ITEM CUDA_SOURCES ${CMAKE_SOURCE_DIR}/cuda/name.cu)  # the emulator has names of its own
file(GLOB EMULATOR_SOURCES CONFIGURE_DEPENDS cuda/on_cpu/*.cpp)

# cuda_on_cpu(NAME [SANITIZERS]): a library of the kernels as plain C++, watched by the sanitizers,
# though the framework is not. No product is fused with a sum, where the CPU's does not do so either.
function(cuda_on_cpu name)
  set(wrapped "")
  foreach(source ${CUDA_SOURCES})
    get_filename_component(stem ${source} NAME_WE)
    set(file ${CMAKE_CURRENT_BINARY_DIR}/cuda_on_cpu/${stem}.cpp)
    file(CONFIGURE OUTPUT ${file} CONTENT "#include \"cuda/${stem}.cu\"\n")
    list(APPEND wrapped ${file})
  endforeach()
  add_library(${name} OBJECT EXCLUDE_FROM_ALL ${wrapped} ${EMULATOR_SOURCES})
  target_link_libraries(${name} PUBLIC chalk)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1> -g -ffp-contract=off
                                         -Wno-unknown-pragmas)
  if(ARGN)
    target_compile_options(${name} PRIVATE -fsanitize=${ARGN} -fno-sanitize-recover=all
                                           -fno-omit-frame-pointer)
    target_link_options(${name} PUBLIC -fsanitize=${ARGN})
  endif()
endfunction()
cuda_on_cpu(chalk_cuda_on_cpu)
cuda_on_cpu(chalk_cuda_on_cpu_asan address,undefined)
cuda_on_cpu(chalk_cuda_on_cpu_tsan thread)

set(with_cuda ${CHALK_CUDA})
if(CHALK_CUDA STREQUAL AUTO)
  set(with_cuda OFF)
  set(nvcc_version none)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_says)
    string(REGEX MATCH "release ([0-9]+)" nvcc_says "${nvcc_says}")
    set(nvcc_version ${CMAKE_MATCH_1})
  endif()
  if(nvcc_version GREATER_EQUAL 12)  # older ones do not know C++20
    set(with_cuda ON)
  else()
    message(STATUS "CUDA: nvcc 12 or newer is needed, found: ${nvcc_version}; so this build has no GPUs "
                   "(-DCHALK_CUDA=ON_CPU emulates them)")
  endif()
endif()

if(with_cuda STREQUAL ON_CPU)
  set(devices chalk_cuda_on_cpu)
elseif(with_cuda)
  # Before the language is enabled: its own choice is `native`, which needs a GPU.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # a CMake older than this nvcc
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
  add_library(chalk_cuda OBJECT ${CUDA_SOURCES} cuda/name.cu)
  target_link_libraries(chalk_cuda PUBLIC chalk CUDA::cudart_static CUDA::cublas)
  target_compile_options(chalk_cuda PUBLIC
                         $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>
                         $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo>
                         $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
  # Its bytes are the CPU's, see data/pixel.h.
  set_property(SOURCE cuda/augment.cu APPEND PROPERTY COMPILE_OPTIONS --fmad=false)
  set(devices chalk_cuda)
else()
  add_library(chalk_no_cuda OBJECT autograd/no_cuda.cpp)
  target_link_libraries(chalk_no_cuda PUBLIC chalk)
  set(devices chalk_no_cuda)
endif()
add_library(chalk_devices INTERFACE)
target_link_libraries(chalk_devices INTERFACE ${devices})
target_sources(chalk_devices INTERFACE $<TARGET_OBJECTS:${devices}>)
