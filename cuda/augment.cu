// Augmentation of a batch of images on the GPU, to the same bytes as on the CPU: the arithmetic is
// that of data/pixel.h, compiled without fused multiply-adds (cuda.cmake).
//
// Every step goes pixel by pixel, except that contrast needs the mean grey of the whole image as
// the steps before it left it. Hence two kernels: up to contrast, and from contrast on. Between
// them are sums of integers, which double holds exactly.
#include <algorithm>

#include "autograd/devices.h"
#include "cuda/reduce.cuh"
#include "cuda/tensors.h"
#include "cuda/workspace.h"
#include "data/pixel.h"
#include "data/transforms.h"

namespace chalk::cuda {
namespace {

using Byte = std::uint8_t;

constexpr int threads = row_block;  // of a block, all of which row_sum() adds up

// What the kernels must know of an image.
struct Plan {
  AugmentParameters drawn;
  Rotation rotation;
  int contrast;  // its place in drawn.order
};

__device__ Pixel load(const Byte* pixel) {
  return {pixel[0], pixel[1], pixel[2]};
}

__device__ void store(const Pixel& p, Byte* pixel) {
  pixel[0] = static_cast<Byte>(p.red);
  pixel[1] = static_cast<Byte>(p.green);
  pixel[2] = static_cast<Byte>(p.blue);
}

// The pixel after the steps from `begin` up to `end` of the order drawn.
__device__ Pixel recoloured(Pixel p, const AugmentParameters& drawn, int begin, int end,
                            int mean = 0) {
  for (int i = begin; i < end; ++i) {
    const ColorStep step = drawn.order[i];
    if (step == ColorStep::kBrightness) p = blend(0, p, drawn.brightness);
    if (step == ColorStep::kContrast) p = blend(mean, p, drawn.contrast);
    if (step == ColorStep::kSaturation) p = blend(grey(p), p, drawn.saturation);
    if (step == ColorStep::kHue) p = turn_hue(p, hue_shift(drawn.hue));
  }
  return p;
}

// y = x mirrored, rotated, and recoloured by the steps before contrast; x and y [images, height,
// width, 3]. A thread makes a pixel; `pieces` blocks an image leave the sums of their pixels' greys
// in greys [images, pieces].
__global__ void augment_before_contrast(int pieces, int height, int width, const Plan* plans,
                                        const Byte* x, Byte* y, double* greys) {
  const int image = blockIdx.x / pieces, pixels = height * width;
  const int pixel = blockIdx.x % pieces * threads + threadIdx.x;
  const Plan& plan = plans[image];
  int shade = 0;
  if (pixel < pixels) {
    const Index source = plan.rotation.source(height, width, pixel / width, pixel % width);
    const Pixel black{0, 0, 0};
    const Pixel found = source < 0 ? black : load(x + 3 * (image * pixels + source));
    const Pixel p = recoloured(found, plan.drawn, 0, plan.contrast);
    store(p, y + 3 * (image * pixels + pixel));
    shade = grey(p);
  }
  const double sum = row_sum<threads>(shade);
  if (threadIdx.x == 0) greys[blockIdx.x] = sum;
}

// y recoloured by contrast and the steps after it. Each block adds up the greys of its image.
__global__ void augment_from_contrast(int pieces, int pixels, const Plan* plans,
                                      const double* greys, Byte* y) {
  const int image = blockIdx.x / pieces;
  const int pixel = blockIdx.x % pieces * threads + threadIdx.x;
  double sum = 0;
  for (int piece = threadIdx.x; piece < pieces; piece += threads)
    sum += greys[image * pieces + piece];
  const int mean = mean_grey(row_sum<threads>(sum), pixels);
  if (pixel < pixels) {
    Byte* const place = y + 3 * (image * pixels + pixel);
    const Plan& plan = plans[image];
    store(recoloured(load(place), plan.drawn, plan.contrast, 4, mean), place);
  }
}

std::vector<Plan> plans_of(Index height, Index width,
                           const std::vector<AugmentParameters>& parameters) {
  std::vector<Plan> plans;
  for (const AugmentParameters& drawn : parameters) {
    const auto contrast = std::find(drawn.order.begin(), drawn.order.end(), ColorStep::kContrast);
    plans.push_back({drawn, Rotation::of(height, width, drawn.degrees, drawn.flip),
                     static_cast<int>(contrast - drawn.order.begin())});
  }
  return plans;
}

}  // namespace
}  // namespace chalk::cuda

chalk::Tensor chalk::cuda_augment(const Tensor& images,
                                  const std::vector<AugmentParameters>& parameters) {
  using namespace cuda;
  const int device = images.device().index;
  const Call call(device, "augment", {&images});
  Tensor y(images.shape(), DType::uint8, images.device());
  const Index height = images.size(1), width = images.size(2);
  to_int(images.numel());  // as kernels count bytes
  const int pixels = to_int(height * width);
  const unsigned pieces = blocks_for(pixels, threads);
  const unsigned blocks = static_cast<unsigned>(parameters.size()) * pieces;

  const std::vector<Plan> plans = plans_of(height, width, parameters);
  const auto count = static_cast<Index>(plans.size());
  Workspace workspace;
  Plan* const there = workspace.take<Plan>(count);
  cuda_allocator(device).copy(plans.data(), there, count * static_cast<Index>(sizeof(Plan)));
  double* const greys = workspace.take<double>(blocks);
  launch(augment_before_contrast, blocks, threads, 0, pieces, height, width, there,
         in<Byte>(images), out<Byte>(y), greys);
  launch(augment_from_contrast, blocks, threads, 0, pieces, pixels, there, greys, out<Byte>(y));
  return y;
}
