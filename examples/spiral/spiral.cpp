// The first program to read: a network learns which of two intertwined spirals a point lies on.
// No straight line separates them, so the hidden layer has to bend the plane first.
#include <cmath>
#include <cstdio>
#include <numbers>

#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/simple.h"
#include "optim/optimizer.h"

using namespace chalk;

constexpr Index kPoints = 400;  // on both spirals together; point i lies on spiral i % 2

// x and y of every point. A spiral winds one and a half times round the origin while its radius
// grows from 0.1 to 1; the second one is the first after half a turn.
Tensor spiral_points() {
  Tensor points({kPoints, 2});
  for (Index i = 0; i < kPoints; ++i) {
    const double way = static_cast<double>(i / 2) / (kPoints / 2);
    const double angle = std::numbers::pi * (3 * way + static_cast<double>(i % 2));
    points.mutable_data<float>()[2 * i] = static_cast<float>((0.1 + 0.9 * way) * std::cos(angle));
    points.mutable_data<float>()[2 * i + 1] =
        static_cast<float>((0.1 + 0.9 * way) * std::sin(angle));
  }
  return points;
}

// Asks the model about every place of the square from -1 to 1: '.' is spiral 0, '#' spiral 1.
void print_map(Module& model) {
  for (float y = 1; y > -1.01f; y -= 0.08f) {
    for (float x = -1; x < 1.01f; x += 0.04f)
      std::putchar(argmax(model(Tensor::from<float>({x, y}, {1, 2}))).item() == 0 ? '.' : '#');
    std::putchar('\n');
  }
}

int main() {
  const Tensor points = spiral_points();
  Tensor labels({kPoints}, DType::int64);
  for (Index i = 0; i < kPoints; ++i)
    labels.mutable_data<Index>()[i] = i % 2;

  Sequential model;
  model.add<Linear>(2, 64);
  model.add<Tanh>();
  model.add<Linear>(64, 2);

  AdamW optimizer(model.parameters(), {.lr = 0.05});
  for (int step = 0; step <= 500; ++step) {
    const Tensor loss = cross_entropy(model(points), labels);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (step % 100 == 0) std::printf("step %3d  loss %.4f\n", step, loss.item());
  }
  print_map(model);
}
