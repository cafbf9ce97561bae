"""chalk beside PyTorch on a GPU, and both beside what the GPU could do: `./chalk bench --cuda`.

Both run in turn, in processes of their own; a line has the median of several runs of each. PyTorch
runs in its fastest layout with TF32 and a fused AdamW: eager, recorded as one graph, compiled with
graphs, and with bfloat16. The floor of a pass is the longer of two times: of its arithmetic at the
rate of tensor cores, of its bytes at the rate of memory. Both rates are measured first (`rates` of
cuda_benchmark.cpp); FLOP and bytes are counted here, from the shapes of the network.

--try is for a machine without a GPU: chalk's side with a benchmark whose kernels are emulated, every
task once, at the smallest size, without times. --floor prints the floors alone, computed for rates
that are given.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

from bench import HERE, Side

CONV_RUNGS = ['direct', 'im2col', 'tiled', 'tensor', 'patch']
MATMUL_RUNGS = ['naive', 'tiled', 'registers', 'tensor', 'cublas']
TORCH_MODES = ['eager', 'graph', 'compile', 'amp']


class JsonSide(Side):
    """A process that answers tasks with lines of JSON; `unavailable` says why where it can't."""

    def __init__(self, name, command, environment=None):
        super().__init__(command, threads=os.cpu_count(), limits=environment)
        self.name = name
        self.unavailable = None

    def run(self, *task):
        if self.unavailable is None:
            try:
                self.process.stdin.write(' '.join(map(str, task)) + '\n')
                self.process.stdin.flush()
            except BrokenPipeError:
                pass
            for line in self.process.stdout:
                if line.startswith('{'):  # else it is what a library says
                    answer = json.loads(line)
                    self.unavailable = answer.get('unavailable')
                    return answer
            self.unavailable = 'the process ended'
        return {'unavailable': self.unavailable}


# ---- what the network computes and moves ----

class Pass:
    """One kernel, or a few that belong together, `count` times in a step: its FLOP and the bytes
    that must cross memory, each tensor once for every time that chalk's kernels read or write it.
    `task` is how cuda_benchmark times it; `evaluation` the floats it moves in evaluation, if it has
    a part in that."""

    def __init__(self, group, count, flop, floats, task, evaluation=None):
        self.group, self.count, self.flop, self.bytes = group, count, flop, 4 * floats
        self.task, self.evaluation = task, evaluation

    def floor_us(self, rates):
        return max(self.flop / rates['tf32_tflop_s'] / 1e6, self.bytes / rates['memory_gb_s'] / 1e3)


def convolution(name, count, batch, side, channels, kernel, out, stride, input_gradient=True):
    padding = kernel // 2
    out_side = (side + 2 * padding - kernel) // stride + 1
    flop = 2 * batch * out_side ** 2 * out * channels * kernel ** 2
    floats = batch * (side ** 2 * channels + out_side ** 2 * out) + kernel ** 2 * channels * out
    passes = ['forward', 'input', 'weight'] if input_gradient else ['forward', 'weight']
    return [Pass(f'{name}: {which}', count, flop, floats,
                 ('conv', 'RUNG', which, batch, side, side, channels, kernel, out, stride, padding,
                  1), floats if which == 'forward' else None) for which in passes]


def network(batch, size):
    """The passes of a train step of the FER network. The tail behind the last block, attention and
    classifier, is under a thousandth of it and left out."""
    half, side = (size + 1) // 2, (size + 3) // 4
    sides = [side, (side + 1) // 2, (side + 3) // 4]
    stem = batch * half ** 2 * 64
    passes = convolution('7x7 stride 2, 3 > 64', 1, batch, size, 3, 7, 64, 2, False)
    for stage, side in enumerate(sides):
        c = 64 << stage
        same = 4 if stage == 0 else 3
        passes += convolution(f'3x3, {c}, {side} px', same, batch, side, c, 3, c, 1)
    for stage in (1, 2):
        c, before = 64 << stage, sides[stage - 1]
        passes += convolution(f'3x3 stride 2, {c // 2} > {c}', 1, batch, before, c // 2, 3, c, 2)
        passes += convolution(f'1x1 stride 2, {c // 2} > {c}', 1, batch, before, c // 2, 1, c, 2)
    pooled = batch * sides[0] ** 2 * 64
    passes += [
        Pass('statistics of batch norm, stem', 1, 0, stem, ('map', 'statistics', batch, half, 64)),
        # y and the x behind each maximum are floats, its position a byte
        Pass('stem: batch norm, ReLU, pool', 1, 0, stem + 2.25 * pooled,
             ('map', 'stem', batch, half, 64), stem + pooled),
        Pass('stem: backward', 1, 0, 2 * stem + 3.25 * pooled,
             ('map', 'stem_backward', batch, half, 64)),
    ]
    for stage, side in enumerate(sides):
        c, shape = 64 << stage, (batch, side, 64 << stage)
        one = batch * side ** 2 * c  # a map of the stage
        shortcuts = 1 if stage > 0 else 0
        name = f'{c}, {side} px'
        passes += [
            Pass(f'statistics of batch norm, {name}', 4 + shortcuts, 0, one,
                 ('map', 'statistics', *shape)),
            Pass(f'batch norm, {name}', 2 + shortcuts, 0, 2 * one, ('map', 'batch_norm', *shape),
                 2 * one),
            Pass(f'batch norm backward, {name}', 2 + shortcuts, 0, 5 * one,
                 ('map', 'batch_norm_backward', *shape)),
            Pass(f'end of a block (CBAM), {name}', 2, 0, 5 * one, ('map', 'cbam', *shape),
                 5 * one),
            Pass(f'end of a block, backward, {name}', 2, 0, 8 * one,
                 ('map', 'cbam_backward', *shape)),
            # Where a block begins, at its input: so the next stage's first block is among them.
            Pass(f'sum of two gradients, {name}', 3 - stage, 0, 3 * one,
                 ('map', 'add', *shape)),
        ]
    passes.append(Pass('AdamW, 3.27 M parameters', 1, 0, 7 * 3273363, ('adamw',)))
    return passes


def evaluation_of_network(batch, size):
    return [Pass(p.group, p.count, p.flop, p.evaluation, p.task)
            for p in network(batch, size) if p.evaluation]


def totals(passes, rates):
    return {'flop': sum(p.count * p.flop for p in passes),
            'bytes': sum(p.count * p.bytes for p in passes),
            'us': sum(p.count * p.floor_us(rates) for p in passes)}


def print_floors(batch, size, rates):
    print(f'\nfloors of a train step, batch {batch} x {size} x {size}, computed for '
          f'{rates["tf32_tflop_s"]:.0f} TFLOP/s and {rates["memory_gb_s"]:.0f} GB/s')
    print(f'{"":40s} {"n":>2s} {"GFLOP":>8s} {"MB":>8s} {"FLOP/byte":>9s} {"us":>8s}')
    for p in network(batch, size):
        print(f'{p.group:40s} {p.count:2d} {p.count * p.flop / 1e9:8.1f} '
              f'{p.count * p.bytes / 1e6:8.0f} {p.flop / p.bytes:9.0f} '
              f'{p.count * p.floor_us(rates):8.0f}')
    all_of_them = totals(network(batch, size), rates)
    print(f'{"all":43s} {all_of_them["flop"] / 1e9:8.1f} {all_of_them["bytes"] / 1e6:8.0f} '
          f'{"":9s} {all_of_them["us"]:8.0f}')


# ---- tables ----

def number(answer, key, form='{:.2f}'):
    """An answer's number, `-` where it has none."""
    value = answer.get(key)
    return '-' if value is None else form.format(value)


def show_answer(name, answer, *columns):
    if 'unavailable' in answer:
        print(f'{name:40s} not measured: {answer["unavailable"]}', flush=True)
    else:
        print(f'{name:40s}' + ''.join(f' {column:>11s}' for column in columns), flush=True)


def show_rates(rates):
    print('\nwhat this GPU does at most')
    for key, what, unit in (
            ('memory_gb_s', 'memory, 1 GiB read and written', 'GB/s'),
            ('cache_gb_s', 'the same, 16 MiB, from its cache', 'GB/s'),
            ('upload_gb_s', 'from the host', 'GB/s'),
            ('tf32_tflop_s', 'matrix product 8192, TF32, cublas', 'TFLOP/s'),
            ('tf32_own_tflop_s', 'the same, rung tensor', 'TFLOP/s'),
            ('fp32_tflop_s', 'the same, float32, cublas', 'TFLOP/s'),
            ('launch_us', 'launches in a row, each', 'us'),
            ('launch_in_graph_us', 'the same in a graph', 'us'),
            ('wait_us', 'reading a number back', 'us')):
        print(f'{what:40s} {number(rates, key, "{:.1f}"):>11s} {unit}')


def medians(sides, task, rounds):
    """Each side's answer, with the median of its times; the first round warms up."""
    answers = [[] for _ in sides]
    for turn in range(rounds + 1):
        for side, results in zip(sides, answers):
            answer = side.run(*task)
            if turn > 0 or rounds == 0:
                results.append(answer)
    for results in answers:
        times = [answer['ms'] for answer in results if answer.get('ms') is not None]
        if times:
            results[-1]['ms'] = statistics.median(times)
    return [results[-1] for results in answers]


def compare(sides, batch, size, rounds, rates):
    for what, passes in (('train', network(batch, size)),
                         ('evaluate', evaluation_of_network(batch, size))):
        floor = totals(passes, rates) if rates else None
        print(f'\n{what}, batch {batch} x {size} x {size}' +
              (f'; floor {floor["us"] / 1e3:.2f} ms' if floor else ''))
        print(f'{"":40s}' + ''.join(f' {title:>11s}' for title in (
            'ms', 'images/s', 'TFLOP/s', 'GB/s', 'of floor', 'kernels', 'peak MB', 'result')))
        for side, answer in zip(sides, medians(sides, (what, batch, size), rounds)):
            ms = answer.get('ms')
            columns = ['-'] * 5
            if ms is not None and floor:
                columns = [f'{ms:.2f}', f'{batch / ms * 1e3:.0f}',
                           f'{floor["flop"] / ms / 1e9:.0f}', f'{floor["bytes"] / ms / 1e6:.0f}',
                           f'{ms * 1e3 / floor["us"]:.2f} x']
            show_answer(side.name, answer, *columns, number(answer, 'launches', '{:.0f}'),
                        number(answer, 'memory_mb', '{:.0f}'), number(answer, 'result', '{:.6f}'))


def count_kernels(sides, batch, size):
    """PyTorch's, when all times are taken; chalk's stand beside its times."""
    print('\nkernels and copies of one step: training, evaluation')
    for side in sides:
        train, evaluate = (side.run('count', what, batch, size) for what in ('train', 'evaluate'))
        show_answer(side.name, {**train, **evaluate}, number(train, 'launches', '{:.0f}'),
                    number(evaluate, 'launches', '{:.0f}'))


def kernel_table(chalk, batch, size, rates, rungs):
    print(f'\nkernels, batch {batch} x {size} x {size}: of one call')
    print(f'{"":40s}' + ''.join(f' {title:>11s}' for title in (
        'us', 'floor us', 'TFLOP/s', 'GB/s', 'launches')))
    for p in network(batch, size):
        for rung in rungs if 'RUNG' in p.task else ['']:
            answer = chalk.run(*[rung if word == 'RUNG' else word for word in p.task])
            us = answer.get('us')
            columns = ['-'] * 4
            if us is not None:
                columns = [f'{us:.1f}', f'{p.floor_us(rates):.1f}',
                           f'{p.flop / us / 1e6:.1f}' if p.flop else '', f'{p.bytes / us / 1e3:.0f}']
            show_answer(f'{p.group} {rung}', answer, *columns, number(answer, 'launches', '{:.1f}'))


def matmul_table(chalk, sizes):
    print('\nmatrix products, TFLOP/s' + ' ' * 16 +
          ''.join(f' {rung:>11s}' for rung in MATMUL_RUNGS))
    for tf32 in (0, 1):
        for n in sizes:
            rates = []
            for rung in MATMUL_RUNGS:
                us = chalk.run('matmul', rung, tf32, 1, n, n, n).get('us')
                rates.append('-' if us is None else f'{2 * n ** 3 / us / 1e6:.1f}')
            print(f'{n} x {n} x {n}, {"TF32" if tf32 else "float32":20s}'.ljust(40) +
                  ''.join(f' {rate:>11s}' for rate in rates), flush=True)


def compare_losses(chalk, batch, size, steps):
    """The same training on the GPU and on the CPU."""
    gpu, cpu = (chalk.run('losses', device, batch, size, steps).get('losses', [])
                for device in ('cuda', 'cpu'))
    print(f'\nlosses of {steps} steps, batch {batch} x {size} x {size}: GPU, CPU')
    for step in range(0, min(len(gpu), len(cpu)), max(1, steps // 20)):
        print(f'{step:4d} {gpu[step]:10.5f} {cpu[step]:10.5f}')
    tail = max(1, len(gpu) // 10)
    if gpu and cpu:
        print(f'mean of the last {tail}: {statistics.mean(gpu[-tail:]):.5f}, '
              f'{statistics.mean(cpu[-tail:]):.5f}', flush=True)


# ---- the program ----

def chalk_side(options, name, **environment):
    command = [options.benchmark] + (['--try'] if options.try_it else [])
    return JsonSide(name, command, environment)


def torch_sides(options):
    return [JsonSide(f'PyTorch, {mode}', [options.python, f'{HERE}/torch_cuda_side.py', mode])
            for mode in TORCH_MODES]


def compare_networks(options, rates):
    """The ladder at the first batch size, where chalk's best and PyTorch join in turn; the other
    sizes without the lower rungs."""
    for number_of_size, batch in enumerate(options.batch):
        sides = [chalk_side(options, 'chalk'),
                 chalk_side(options, 'chalk, not recorded', CHALK_GRAPH='0')]
        if number_of_size == 0:
            for rung in options.rungs:
                sides.append(chalk_side(options, f'chalk, {rung}', CHALK_CUDA_CONV=rung))
            sides.append(chalk_side(options, 'chalk, nothing fused', CHALK_FUSED='0'))
            sides.append(chalk_side(options, 'chalk, without TF32', CHALK_TF32='0'))
        others = torch_sides(options) if options.torch else []
        sides += others
        compare(sides, batch, options.size, options.rounds, rates)
        if number_of_size == 0 and others:
            count_kernels(others, batch, options.size)
        for side in sides:
            side.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--benchmark', help='the program cuda_benchmark, or cuda_on_cpu_benchmark')
    parser.add_argument('--only', choices=['rates', 'kernels', 'step', 'losses'], action='append',
                        help='these parts alone')
    parser.add_argument('--python', default=sys.executable, help='a Python that has PyTorch')
    parser.add_argument('--no-torch', dest='torch', action='store_false')
    parser.add_argument('--batch', type=int, action='append', help='[32 and 256]')
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--rung', dest='rungs', action='append', choices=CONV_RUNGS)
    parser.add_argument('--steps', type=int, default=200, help='whose losses are compared')
    parser.add_argument('--try', dest='try_it', action='store_true')
    parser.add_argument('--floor', nargs=2, type=float, metavar=('TFLOP_S', 'GB_S'))
    options = parser.parse_args()
    if options.try_it:
        options.size, options.rounds, options.steps = 81, 0, 2
        options.batch, options.rungs = options.batch or [1], options.rungs or ['tensor']
    options.batch = options.batch or [32, 256]
    options.rungs = options.rungs or CONV_RUNGS
    if options.floor:
        for batch in options.batch:
            print_floors(batch, options.size, dict(zip(('tf32_tflop_s', 'memory_gb_s'),
                                                       options.floor)))
        return
    if not options.benchmark:
        parser.error('say which program: --benchmark FILE')
    parts = options.only or ['rates', 'step', 'kernels', 'losses']

    chalk = chalk_side(options, 'chalk')
    device = chalk.run('device')
    if 'unavailable' in device:
        sys.exit('cuda_bench: no GPU for chalk: see the message above')
    print(device['name'] + ('; tried without times' if options.try_it else
                            f'; medians of {options.rounds}'))
    if shutil.which('nvidia-smi'):
        print('driver, highest clock, power limit:', flush=True)
        subprocess.run(['nvidia-smi', '--query-gpu=driver_version,clocks.max.sm,power.limit',
                        '--format=csv,noheader'])
    rates = chalk.run('rates')
    show_rates(rates)
    rates = None if options.try_it else rates  # there are none to compare with
    if rates:
        for batch in options.batch:
            print_floors(batch, options.size, rates)
    if 'step' in parts:
        compare_networks(options, rates)
    if 'kernels' in parts:
        kernel_table(chalk, options.batch[0], options.size, rates, options.rungs)
        matmul_table(chalk, [64] if options.try_it else [256, 1024, 4096])
    if 'losses' in parts:
        compare_losses(chalk, options.batch[0], options.size, options.steps)
    chalk.close()


if __name__ == '__main__':
    main()
