// The facial-expression network: ResNet-18 with CBAM up to its third stage, patch extraction,
// self-attention over the patches, and a linear classifier. 3,273,363 parameters.
// Architecture: github.com/37nomad/Facial-Expression-Recognition-Using-Self-Attention.
#pragma once

#include "layers/attention.h"
#include "layers/patch_extraction.h"
#include "layers/resnet.h"

namespace chalk {

// images [N, H, W, 3] in 0 .. 1, made for 224 x 224 -> logits [N, 7].
class FerNet : public Module {
 public:
  explicit FerNet(Index heads = 1)
      : backbone(3),
        patch_extraction(256),
        attention(256, heads),
        layer_norm(256),
        classifier(256, 7) {
    classifier.weight.copy_from(init::uniform({256, 7}, 1 / std::sqrt(256.0 + 7.0)));
    classifier.bias.copy_from(Tensor::zeros({7}));
    add_module("", backbone);
    add_module("patch_extraction", patch_extraction);
    add_module("attention", attention);
    add_module("layer_norm", layer_norm);
    add_module("classifier", classifier);
  }

  Tensor forward(const Tensor& images) override {
    const Tensor map = patch_extraction(backbone(images));               // [N, 2, 2, 256]
    const Tensor tokens = reshape(map, {map.size(0), -1, map.size(3)});  // [N, 4, 256]
    const Tensor attended = layer_norm(attention(tokens) + tokens);
    return classifier(mean(attended, {1}));
  }

  std::string describe() const override { return "FerNet"; }

  ResNet backbone;
  PatchExtraction patch_extraction;
  MultiHeadAttention attention;
  LayerNorm layer_norm;
  Linear classifier;
};

}  // namespace chalk
