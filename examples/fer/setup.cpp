#include "examples/fer/setup.h"

#include <filesystem>
#include <iostream>

#include "autograd/check.h"
#include "autograd/cpu/parallel.h"
#include "autograd/devices.h"
#include "examples/fer/draw.h"

namespace chalk::fer {

Device use_machine(const Machine& machine) {
  check(machine.threads >= 0 && machine.threads <= 1024, "--threads ", machine.threads,
        ": expected 0 (one for each core) to 1024");
  check(machine.workers >= 0 && machine.workers <= 256, "--workers ", machine.workers,
        ": expected 0 to 256");
  cpu::set_num_threads(machine.threads);
  if (machine.device == "cpu") return Device::cpu;
  check(machine.device == "cuda", "--device ", machine.device, ": expected cpu or cuda");
  cuda_allocator();  // fails, saying why, where there is no device
  return Device::cuda;
}

static std::string drawn_faces() {
  const DrawOptions draw;
  const std::string folder = "data-cache/drawn-v" + std::to_string(kDrawingVersion) + "-seed" +
                             std::to_string(draw.seed) + "-" + std::to_string(draw.train_images) +
                             "-" + std::to_string(draw.test_images);
  if (std::filesystem::exists(folder)) {
    std::cout << "data:   no --data given: the faces that chalk drew in " << folder << '\n';
  } else {
    std::cout << "data:   no --data given: drawing " << draw.train_images + draw.test_images
              << " faces in " << folder << std::endl;
    draw_dataset({folder, draw.train_images, draw.test_images, draw.seed});
  }
  return folder;
}

FaceSets open_faces(const std::string& folder, bool with_training) {
  if (!folder.empty()) std::cout << "data:   " << folder << '\n';
  const FaceSets faces = find_faces(folder.empty() ? drawn_faces() : folder, with_training);
  std::cout << "        " << faces.layout << ": ";
  if (with_training) std::cout << faces.train.size() << " images to learn from, ";
  std::cout << faces.test.size() << (with_training ? "" : " images") << " to test with"
            << std::endl;
  return faces;
}

}  // namespace chalk::fer
