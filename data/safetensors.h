// Tensors by name in a file: safetensors, the format PyTorch users exchange weights in.
//
//   8 bytes   n, the length of the header, little endian
//   n bytes   header: {"conv1.weight": {"dtype": "F32", "shape": [64, 3, 7, 7],
//                      "data_offsets": [0, 37632]}, ..., "__metadata__": {"epoch": "12"}}
//   the rest  the elements of all tensors, little endian, row-major, without gaps
//
// Unlike a pickled checkpoint such a file can hold no code, only what is written above, and all of
// it is checked here before it is believed. Format: github.com/huggingface/safetensors.
#pragma once

#include <map>
#include <string>

#include "autograd/tensor.h"

namespace chalk {

struct TensorFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// The tensors are on the CPU, with the shapes and element types of the file: F32, F64, I64 or U8.
// Fails, naming the file and the tensor, for any other type and for a damaged or hostile file.
TensorFile read_safetensors(const std::string& path);

// Replaces the file as one step, see write_file. The same tensors always give the same bytes.
void write_safetensors(const std::string& path, const TensorFile& file);

}  // namespace chalk
