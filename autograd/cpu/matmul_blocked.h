// Matrix products, third rung: blocks that fit the caches, on the kernel of matrix_kernel.h (Goto
// and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008).
#pragma once

#include "autograd/cpu/matrix_kernel.h"
#include "autograd/cpu/parallel.h"
#include "autograd/cpu/scratch.h"

namespace chalk::cpu {

// How a product is cut. The inner dimension goes in blocks, one after the other, each adding to
// C; a block of B (all columns) is packed by all threads, then rows x columns tasks share it.
struct MatmulBlocks {
  Index inner, rows, panels;

  template <typename T>
  static MatmulBlocks choose(Index batch, Index rows, Index inner, Index columns) {
    const Index panels = divide_up(columns, panel_columns<T>);
    MatmulBlocks blocks{inner, rows, panels};
    if (batch * rows * inner * columns < 100'000) return blocks;  // not worth a second thread
    // About 1 MiB of packed B, but never so few elements that C costs more than the product.
    const Index elements = (Index{1} << 20) / static_cast<Index>(sizeof(T));
    const Index least = 512 * 4 / static_cast<Index>(sizeof(T));
    blocks.inner = std::min(inner, std::max(least, elements / (panels * panel_columns<T>)));
    if (batch >= 8 && rows * columns < 256 * 256) return blocks;
    blocks.rows = std::clamp(round_up(rows / 8, tile_rows), tile_rows, 8 * tile_rows);
    blocks.panels = std::min<Index>(panels, 8);
    return blocks;
  }
};

// See matmul(); no size is 0.
template <typename T>
void matmul_blocked(Index batch, Index rows, Index inner, Index columns, const T* a,
                    Index a_batch_stride, bool transpose_a, const T* b, Index b_batch_stride,
                    bool transpose_b, T* c) {
  if (b_batch_stride == 0 && !transpose_a && a_batch_stride == rows * inner) {
    rows *= batch;  // one tall product
    batch = 1;
  }
  if (batch * rows == 1 && transpose_b) {  // the matrix times a column: it need not be packed
    return matmul_blocked(1, columns, inner, 1, b, 0, false, a, 0, false, c);
  }
  constexpr Index width = panel_columns<T>;
  const MatmulBlocks block = MatmulBlocks::choose<T>(batch, rows, inner, columns);
  const Index panels = divide_up(columns, width), b_batches = b_batch_stride == 0 ? 1 : batch;
  const Index row_blocks = divide_up(rows, block.rows);
  const Index panel_blocks = divide_up(panels, block.panels);
  Scratch scratch;
  T* packed_b = scratch.take<T>(b_batches * panels * width * block.inner);
  const Index a_block = transpose_a ? block.rows * block.inner : 0;
  T* turned_a = scratch.take<T>(a_block * num_threads());

  for (Index k = 0; k < inner; k += block.inner) {
    const Index depth = std::min(block.inner, inner - k), panel = depth * width;
    parallel_for(b_batches * panel_blocks, [&](Index task) {
      const Index n = task / panel_blocks, first = task % panel_blocks * block.panels;
      const T* from = b + n * b_batch_stride + (transpose_b ? k : k * columns);
      for (Index p = first; p < std::min(panels, first + block.panels); ++p) {
        const Index j = p * width;
        pack_panel(from + (transpose_b ? j * inner : j), transpose_b ? 1 : columns,
                   transpose_b ? inner : 1, depth, std::min(width, columns - j),
                   packed_b + (n * panels + p) * panel);
      }
    });
    parallel_for(batch * row_blocks * panel_blocks, [&](Index task, int thread) {
      const Index p = task % panel_blocks * block.panels, j = p * width;
      const Index i = task / panel_blocks % row_blocks * block.rows;
      const Index n = task / panel_blocks / row_blocks, b_n = b_batch_stride == 0 ? 0 : n;
      const Index height = std::min(block.rows, rows - i);
      const T* a_n = a + n * a_batch_stride;
      Product<T> product{};
      product.a = a_n + i * inner + k;
      product.a_row = inner;
      product.a_inner = 1;
      if (transpose_a) {  // gathered, since rows a power of two apart share cache sets
        T* turned = turned_a + thread * a_block;
        for (Index d = 0; d < depth; ++d) {
          const T* from = a_n + (k + d) * rows + i;
          std::copy(from, from + height, turned + d * height);
        }
        product.a = turned;
        product.a_row = 1;
        product.a_inner = height;
      }
      product.b = packed_b + (b_n * panels + p) * panel;
      product.b_inner = width;
      product.c = c + (n * rows + i) * columns + j;
      product.c_row = columns;
      product.steps = 1;
      product.inner = depth;
      product.add = k > 0;
      multiply(product, height, std::min(columns - j, block.panels * width), panel);
    });
  }
}

}  // namespace chalk::cpu
