"""Times chalk's convolutions and matrix products beside PyTorch's, shape by shape.

    python3 tests/benchmark/conv_benchmark.py build/conv_benchmark [network|general|batch1|matmul]

Both run in turn; a line holds, for each pass, the medians in ms and PyTorch's divided by chalk's.
PyTorch is given its fastest layout, channels last.
"""
import argparse
import statistics
import subprocess
import time

import torch

F = torch.nn.functional

# name: batch, height, width, in, kernel, out, stride, padding, groups
NETWORK = {
    'stem 7x7 s2 3-64': (32, 224, 224, 3, 7, 64, 2, 3, 1),
    '3x3 64@56': (32, 56, 56, 64, 3, 64, 1, 1, 1),
    '3x3 128@28': (32, 28, 28, 128, 3, 128, 1, 1, 1),
    '3x3 256@14': (32, 14, 14, 256, 3, 256, 1, 1, 1),
    '3x3 s2 64-128': (32, 56, 56, 64, 3, 128, 2, 1, 1),
    '3x3 s2 128-256': (32, 28, 28, 128, 3, 256, 2, 1, 1),
    '1x1 s2 64-128': (32, 56, 56, 64, 1, 128, 2, 0, 1),
    '1x1 s2 128-256': (32, 28, 28, 128, 1, 256, 2, 0, 1),
    '7x7 2-1@56': (32, 56, 56, 2, 7, 1, 1, 3, 1),
    '7x7 2-1@28': (32, 28, 28, 2, 7, 1, 1, 3, 1),
    '7x7 2-1@14': (32, 14, 14, 2, 7, 1, 1, 3, 1),
    '1x1 64-4@1': (32, 1, 1, 64, 1, 4, 1, 0, 1),
    '1x1 4-64@1': (32, 1, 1, 4, 1, 64, 1, 0, 1),
    '1x1 256-16@1': (32, 1, 1, 256, 1, 16, 1, 0, 1),
    '1x1 16-256@1': (32, 1, 1, 16, 1, 256, 1, 0, 1),
    'depthwise 4x4 s4': (32, 14, 14, 256, 4, 256, 4, 1, 256),
    'depthwise 2x2 s2': (32, 4, 4, 256, 2, 256, 2, 0, 256),
    '1x1 256@4': (32, 4, 4, 256, 1, 256, 1, 0, 1),
    '1x1 256@2': (32, 2, 2, 256, 1, 256, 1, 0, 1),
}
GENERAL = {
    '3x3 3-64@224': (8, 224, 224, 3, 3, 64, 1, 1, 1),
    '3x3 64@448': (1, 448, 448, 64, 3, 64, 1, 1, 1),
    '3x3 64@32 b256': (256, 32, 32, 64, 3, 64, 1, 1, 1),
    '3x3 512@7': (32, 7, 7, 512, 3, 512, 1, 1, 1),
    '3x3 256@28': (16, 28, 28, 256, 3, 256, 1, 1, 1),
    '3x3 17@32': (32, 32, 32, 17, 3, 17, 1, 1, 1),
    '3x3 100@30': (32, 30, 30, 100, 3, 100, 1, 1, 1),
    '3x3 16-32@64': (32, 64, 64, 16, 3, 32, 1, 1, 1),
    '3x3 8@128': (32, 128, 128, 8, 3, 8, 1, 1, 1),
    '5x5 64@28': (32, 28, 28, 64, 5, 64, 1, 2, 1),
    '5x5 6-16@14': (64, 14, 14, 6, 5, 16, 1, 0, 1),
    '5x5 1-6@28': (64, 28, 28, 1, 5, 6, 1, 2, 1),
    '7x7 32@28': (32, 28, 28, 32, 7, 32, 1, 3, 1),
    '7x7 s2 3-64@448': (4, 448, 448, 3, 7, 64, 2, 3, 1),
    '1x1 64-256@56': (32, 56, 56, 64, 1, 256, 1, 0, 1),
    '1x1 256-64@56': (32, 56, 56, 256, 1, 64, 1, 0, 1),
    '1x1 100-17@32': (32, 32, 32, 100, 1, 17, 1, 0, 1),
    '2x2 s2 96-192@28': (32, 28, 28, 96, 2, 192, 2, 0, 1),
    '4x4 s4 3-96@224': (32, 224, 224, 3, 4, 96, 4, 0, 1),
    '16x16 s16 3-192@224': (32, 224, 224, 3, 16, 192, 16, 0, 1),
    '3x3 s2 100-17@33': (32, 33, 33, 100, 3, 17, 2, 1, 1),
    '3x3 g2 64@28': (32, 28, 28, 64, 3, 64, 1, 1, 2),
    '3x3 g4 128@28': (32, 28, 28, 128, 3, 128, 1, 1, 4),
    '3x3 g8 64@28': (32, 28, 28, 64, 3, 64, 1, 1, 8),
    '3x3 g32 128@28': (32, 28, 28, 128, 3, 128, 1, 1, 32),
    'depthwise 3x3 64@56': (32, 56, 56, 64, 3, 64, 1, 1, 64),
    'depthwise 3x3 s2 128@56': (32, 56, 56, 128, 3, 128, 2, 1, 128),
    'depthwise 7x7 96@28': (32, 28, 28, 96, 7, 96, 1, 3, 96),
    'depthwise 3x3 17@33': (32, 33, 33, 17, 3, 17, 1, 1, 17),
}
BATCH1 = {name: (1,) + shape[1:] for name, shape in NETWORK.items()}
# name: batch, rows, inner, columns, transpose a, transpose b
MATMUL = {f'{n}': (1, n, n, n, 0, 0) for n in (64, 128, 256, 512, 1000, 2048)} | {
    '512 a^T': (1, 512, 512, 512, 1, 0),
    '512 b^T': (1, 512, 512, 512, 0, 1),
    '512 both': (1, 512, 512, 512, 1, 1),
    '32 x 4x256x4 b^T': (32, 4, 256, 4, 0, 1),
    '32 x 4x4x256': (32, 4, 4, 256, 0, 0),
    '64 x 128x64x128 b^T': (64, 128, 64, 128, 0, 1),
    '128x256x256 b^T': (1, 128, 256, 256, 0, 1),
    '256x128x768 a^T': (1, 256, 128, 768, 1, 0),
    '32x256x7': (1, 32, 256, 7, 0, 1),
    '1x4096x4096': (1, 1, 4096, 4096, 0, 1),
    '64x100352x128 a^T': (1, 64, 100352, 128, 1, 0),
}


def torch_convolution(pass_name, shape):
    batch, height, width, channels, kernel, out, stride, padding, groups = shape
    layout = torch.channels_last
    x = torch.rand(batch, channels, height, width).contiguous(memory_format=layout)
    weight = torch.rand(out, channels // groups, kernel, kernel).contiguous(memory_format=layout)
    if pass_name in ('forward', 'packed'):
        return lambda: F.conv2d(x, weight, None, stride, padding, 1, groups)
    dy = torch.rand_like(F.conv2d(x, weight, None, stride, padding, 1, groups))
    wanted = [pass_name == 'input', pass_name == 'weight', False]
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, wanted)


def torch_matmul(shape):
    batch, rows, inner, columns, transpose_a, transpose_b = shape
    a = torch.rand(batch, inner, rows).mT if transpose_a else torch.rand(batch, rows, inner)
    b = torch.rand(batch, columns, inner).mT if transpose_b else torch.rand(batch, inner, columns)
    if batch == 1:
        a, b = a[0], b[0]
    return lambda: a @ b


def median_ms(run):
    run()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < 0.01:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


class Chalk:
    """The program that runs chalk's side: a task a line, see benchmark.h."""

    def __init__(self, program, threads):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.process.stdin.write(f'threads {threads}\n')

    def __call__(self, *task):
        print(*task, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def compare(chalk, task, torch_run, rounds, time_run=median_ms):
    """Medians of both, in turn; the pause lets the other's spinning threads fall asleep."""
    times = [], []
    for _ in range(rounds):
        time.sleep(0.02)
        times[0].append(chalk(*task))
        if torch_run:
            time.sleep(0.02)
            times[1].append(time_run(torch_run))
    return [statistics.median(t) if t else float('nan') for t in times]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program', help='the conv_benchmark that was built')
    parser.add_argument('sets', nargs='*', default=['network'])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--rung', help='of the ladder: see CHALK_CONV and CHALK_MATMUL')
    parser.add_argument('--only', default='', help='a part of the name of a shape')
    parser.add_argument('--no-torch', action='store_true')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chalk = Chalk(options.program, options.threads)
    sets = {'network': NETWORK, 'general': GENERAL, 'batch1': BATCH1, 'matmul': MATMUL}
    for name in options.sets:
        print(f'{name}: chalk ms, PyTorch ms, ratio')
        for shape_name, shape in sets[name].items():
            if options.only not in shape_name:
                continue
            passes = {'matmul': ['matmul'], 'batch1': ['forward', 'packed']}.get(
                name, ['forward', 'input', 'weight'])
            line = f'{shape_name:24s}'
            for p in passes:
                run = torch_matmul(shape) if p == 'matmul' else torch_convolution(p, shape)
                task = (p, *shape, options.rung or ('blocked' if p == 'matmul' else 'automatic'))
                ours, theirs = compare(chalk, task, None if options.no_torch else run,
                                       options.rounds)
                line += f' | {p:7s}{ours:8.3f} {theirs:8.3f} {theirs / ours:6.2f}'
            print(line, flush=True)


if __name__ == '__main__':
    main()
