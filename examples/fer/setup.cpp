#include "examples/fer/setup.h"

#include <condition_variable>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <new>
#include <stop_token>
#include <system_error>
#include <thread>

#include "autograd/check.h"
#include "autograd/cpu/parallel.h"
#include "autograd/devices.h"
#include "examples/fer/draw.h"
#include "examples/fer/fields.h"

namespace chalk::fer {

// OpenMP ends the program where it cannot have its threads. So first start as many; fails as
// std::thread does.
static void try_threads(int count) {
  std::mutex mutex;
  std::condition_variable_any idle;
  std::vector<std::jthread> threads;  // all there at once, until they go out of scope
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&](std::stop_token stop) {
      std::unique_lock lock(mutex);
      idle.wait(lock, stop, [] { return false; });
    });
}

static Device open_device(const std::string& name) {
  const std::string option = "--device " + name;
  const ErrorScope scope(option);
  const Device device = Device::named(name);
  try {
    if (device != Device::cpu) cuda_check_device(device.index);
  } catch (const Error& error) {
    throw Error(error.what() + std::string(", here --device cpu"));
  }
  return device;
}

Device use_machine(const Machine& machine) {
  check_range("--threads", machine.threads, 0, kMaxThreads);
  check_range("--workers", machine.workers, 0, kMaxWorkers);
  const Device device = open_device(machine.device);
  if (device != Device::cpu)
    std::cout << "device: " << to_string(device) << ": " << cuda_description(device.index) << '\n';
  cpu::set_num_threads(machine.threads);
  try_threads(cpu::num_threads() - 1);
  return device;
}

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr)
    return "the memory ran out; a smaller --batch or --image-size, or fewer --threads and "
           "--workers, need less";
  const auto* system = dynamic_cast<const std::system_error*>(&error);
  if (system != nullptr && system->code() == std::errc::resource_unavailable_try_again)
    return "the system allows no more threads (" + system->code().message() +
           "); take fewer, with --threads 1 --workers 0, or raise the limit (ulimit -u, ulimit -v)";
  return error.what();
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
    try {
      draw_dataset({folder, draw.train_images, draw.test_images, draw.seed});
    } catch (const Error&) {  // or another process was faster: its faces are the same
      if (!std::filesystem::exists(folder)) throw;
    }
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
