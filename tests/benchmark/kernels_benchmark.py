"""Times the CPU backend's kernels (all but convolutions and products) beside PyTorch's.

    python3 tests/benchmark/kernels_benchmark.py build/release/kernels_benchmark

Both run in turn; a line holds the medians of the rounds, in ms, and PyTorch's divided by chalk's.
PyTorch is given channels-last tensors, and a malloc that keeps what is freed.
"""
import argparse
import os
import sys
import time

# The limits keep glibc from giving freed memory back; they are read when a process starts.
TUNED = {'MALLOC_TRIM_THRESHOLD_': '-1', 'MALLOC_MMAP_THRESHOLD_': '4294967296'}
if any(os.environ.get(name) != value for name, value in TUNED.items()):
    os.execve(sys.executable, [sys.executable] + sys.argv, dict(os.environ, **TUNED))

import torch  # noqa: E402

from conv_benchmark import Chalk, compare  # noqa: E402

F = torch.nn.functional
aten = torch.ops.aten

MAPS = {'stem': (32, 112 * 112, 64), 'layer1': (32, 56 * 56, 64), 'layer2': (32, 28 * 28, 128),
        'layer3': (32, 14 * 14, 256)}
NORMS = ['batch_norm', 'batch_norm_relu', 'batch_norm_backward', 'batch_norm_relu_backward']
ATTENTION = ['sum_pixels', 'max_pixels', 'max_backward', 'sum_channels', 'max_channels',
             'multiply_image', 'multiply_pixel']
ARITHMETIC = ['relu', 'relu_backward', 'add', 'add_bias', 'accumulate', 'sum', 'sum_rows',
              'transpose']
# (kernel, shape)
CASES = [(k, MAPS[m]) for m in MAPS for k in NORMS]
CASES += [(k, MAPS['stem']) for k in ('max_pool', 'max_pool_backward')]
CASES += [(k, MAPS[m]) for m in ('layer1', 'layer2', 'layer3') for k in ATTENTION]
CASES += [(k, MAPS['layer1']) for k in ARITHMETIC]
CASES += [(k, (32, 56 * 56, 1)) for k in ('sigmoid', 'exp', 'tanh')]
CASES += [(k, shape) for shape in ((1, 32 * 4, 256), (1, 4096, 1000))
          for k in ('layer_norm', 'layer_norm_backward', 'softmax', 'softmax_backward',
                    'log_softmax')]
CASES += [('softmax', (1, 32 * 4, 4)), ('log_softmax', (1, 32, 7)), ('adamw', (1, 1, 3273363))]


def torch_kernel(name, shape):
    outer, length, inner = shape
    side = int(length ** 0.5)
    x, dy = torch.rand(shape) - 0.5, torch.rand(shape) - 0.5
    weight, bias = torch.rand(inner), torch.rand(inner)

    def as_map(t):
        """The same elements as a channels-last map [N, C, H, W]."""
        return t.view(outer, side, side, inner).permute(0, 3, 1, 2)

    def batch_norm():
        return aten.native_batch_norm(as_map(x), weight, bias, mean, variance, True, 0.1, 1e-5)

    def batch_norm_backward(gradient):
        return aten.native_batch_norm_backward(gradient, as_map(x), weight, mean, variance,
                                               saved[1], saved[2], True, 1e-5, [True] * 3)

    mean, variance = torch.zeros(inner), torch.ones(inner)
    if name.startswith('batch_norm'):
        saved = batch_norm()
    if name.startswith('max_pool'):
        pooled, where = aten.max_pool2d_with_indices(as_map(x), [3, 3], [2, 2], [1, 1])
    if name == 'max_backward':
        position = x.max(1, keepdim=True)[1]
    if name == 'layer_norm_backward':
        _, row_mean, row_inverse_std = aten.native_layer_norm(x, [inner], weight, bias, 1e-5)
    if name == 'adamw':
        state = [t.view(-1) for t in (x, dy, torch.rand(shape), torch.rand(shape))]
        step = torch.ones(1)
    return {
        'relu': lambda: x.relu(),
        'sigmoid': lambda: x.sigmoid(),
        'exp': lambda: x.exp(),
        'tanh': lambda: x.tanh(),
        'relu_backward': lambda: aten.threshold_backward(dy, x, 0),
        'add': lambda: x + dy,
        'add_bias': lambda: x + weight,
        'multiply_image': lambda: x * dy[:, :1],
        'multiply_pixel': lambda: x * dy[:, :, :1],
        'accumulate': lambda: dy.add_(x),
        'sum': lambda: x.sum(),
        'sum_pixels': lambda: as_map(x).mean((2, 3)),
        'sum_channels': lambda: as_map(x).mean(1, keepdim=True),
        'sum_rows': lambda: x.sum((0, 1)),
        'max_pixels': lambda: F.adaptive_max_pool2d(as_map(x), 1),
        'max_channels': lambda: as_map(x).max(1, keepdim=True),
        'max_backward': lambda: torch.zeros(shape).scatter_(1, position, dy[:, :1]),
        'softmax': lambda: x.softmax(-1),
        'softmax_backward': lambda: aten._softmax_backward_data(dy, x, -1, torch.float32),
        'log_softmax': lambda: x.log_softmax(-1),
        'layer_norm': lambda: F.layer_norm(x, [inner], weight, bias),
        'layer_norm_backward': lambda: aten.native_layer_norm_backward(
            dy, x, [inner], row_mean, row_inverse_std, weight, bias, [True] * 3),
        'batch_norm': batch_norm,
        'batch_norm_relu': lambda: batch_norm()[0].relu_(),
        'batch_norm_backward': lambda: batch_norm_backward(as_map(dy)),
        'batch_norm_relu_backward': lambda: batch_norm_backward(
            aten.threshold_backward(as_map(dy), as_map(x), 0)),
        'max_pool': lambda: aten.max_pool2d_with_indices(as_map(x), [3, 3], [2, 2], [1, 1]),
        'max_pool_backward': lambda: aten.max_pool2d_with_indices_backward(
            pooled, as_map(x), [3, 3], [2, 2], [1, 1], [1, 1], False, where),
        'transpose': lambda: x.transpose(1, 2).contiguous(),
        'adamw': lambda: torch.optim._functional.adamw(
            [state[0]], [state[1]], [state[2]], [state[3]], [], [step], foreach=False,
            amsgrad=False, beta1=0.9, beta2=0.999, lr=1e-3, weight_decay=0.01, eps=1e-8,
            maximize=False),
    }[name]


def best_ms(run):
    """The fastest of the runs: what else the machine does only ever slows one down."""
    with torch.no_grad():
        run()
        times, start = [], time.perf_counter()
        while len(times) < 5 or time.perf_counter() - start < 0.02:
            begin = time.perf_counter()
            run()
            times.append((time.perf_counter() - begin) * 1e3)
    return min(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program', help='the kernels_benchmark that was built')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', default='', help='a part of the name of a kernel')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chalk = Chalk(options.program, options.threads)
    print(f'{"":26s}{"":18s} {"chalk ms":>9s} {"PyTorch":>9s} {"ratio":>6s}')
    for name, shape in CASES:
        if options.only not in name:
            continue
        ours, theirs = compare(chalk, (name, *shape), torch_kernel(name, shape), options.rounds,
                               best_ms)
        print(f'{name:26s}{str(shape):18s} {ours:9.3f} {theirs:9.3f} {theirs / ours:6.2f}',
              flush=True)


if __name__ == '__main__':
    main()
