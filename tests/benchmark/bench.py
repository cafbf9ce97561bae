"""chalk beside PyTorch on this machine: `./chalk bench`.

Both run in turn, in processes of their own, on the same number of threads; a line has the median of
several runs of each, and how many times chalk's PyTorch's is. PyTorch runs at its best: channels
last, and a malloc that keeps what is freed. ONNX Runtime and OpenVINO, with which trained networks
are served, join for evaluation and latency if one of the Pythons has them.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Side:
    """A process that runs tasks; see network_benchmark.cpp, torch_side.py and serving_side.py."""

    def __init__(self, command, threads, greets=False, limits=None):
        # The limits keep glibc from giving freed memory back: what tuned mallocs do.
        tuned = {'MALLOC_TRIM_THRESHOLD_': '-1', 'MALLOC_MMAP_THRESHOLD_': '4294967296'}
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), **tuned, **(limits or {}))
        self.started = time.perf_counter()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.name = self.process.stdout.readline().strip() if greets else 'chalk'

    def run(self, *task):
        self.process.stdin.write(' '.join(map(str, task)) + '\n')
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def processor():
    with open('/proc/cpuinfo') as info:
        lines = info.read().splitlines()
    model = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), '?')
    flags = next((line for line in lines if line.startswith('flags')), '')
    vectors = 'AVX-512' if 'avx512f' in flags else 'AVX2' if 'avx2' in flags else 'SSE'
    return f'{model}, {os.cpu_count()} cores, {vectors}'


def medians(sides, task, rounds):
    """Runs the task on each side in turn; the first round warms up and does not count."""
    times = [[] for _ in sides]
    for turn in range(rounds + 1):
        for side, results in zip(sides, times):
            time.sleep(0.1)  # lets the others' spinning threads fall asleep
            elapsed = side.run(*task)
            if turn > 0:
                results.append(elapsed)
    return [statistics.median(results) for results in times]


def show(name, results, unit='ms'):
    """A line: chalk's result, then every other's and how many times chalk's it is."""
    chalk, *others = results
    print(f'{name:34s} {chalk:8.1f} {unit:2s}' +
          ''.join(f' {other:10.1f} {unit:2s} {other / chalk:6.2f} x' for other in others),
          flush=True)


def show_names(sides):
    print(f'{"":34s} ' + ' '.join(f'{side.name:>{11 if side.name == "chalk" else 22}s}'
                                  for side in sides))


def start(build, pythons, threads, limits=None):
    """chalk and every PyTorch, and the milliseconds from a program's start to its first step."""
    sides, first_steps = [], []
    commands = [[f'{build}/network_benchmark']] + [[p, f'{HERE}/torch_side.py'] for p in pythons]
    for command in commands:
        side = Side(command, threads, greets=len(command) > 1, limits=limits)
        if not side.name:
            print(f'PyTorch does not start with {command[0]}: install python3-torch and '
                  'python3-torchvision,\nor name a Python that has them with --python')
            continue
        side.run('train', 32, 224)
        first_steps.append((time.perf_counter() - side.started) * 1e3)
        sides.append(side)
    return sides, first_steps


def start_servers(pythons, threads):
    """ONNX Runtime and OpenVINO, each from the first Python that has it."""
    servers, missing = [], []
    for module in ('onnxruntime', 'openvino'):
        for python in pythons:
            if subprocess.run([python, '-c', f'import torch, onnx, {module}'],
                              stderr=subprocess.DEVNULL).returncode == 0:
                servers.append(Side([python, f'{HERE}/serving_side.py', module], threads,
                                    greets=True))
                break
        else:
            missing.append(module)
    if missing:
        print(f'without {" and ".join(missing)}: pip install torch torchvision onnx '
              f'{" ".join(missing)}, and name that Python with --python')
    return servers


def compare(build, pythons, threads, rounds):
    sides, first_steps = start(build, pythons, threads)
    servers = start_servers(pythons, threads)
    show_names(sides + servers)
    few = max(3, rounds // 2)
    show('train step, 32 x 224 x 224', medians(sides, ('train', 32, 224), rounds))
    show('peak memory of training', [side.run('memory') for side in sides], unit='MB')
    show('evaluation, 32 x 224 x 224', medians(sides + servers, ('evaluate', 32, 224), rounds))
    show('latency, batch 1', medians(sides + servers, ('evaluate', 1, 224), 4 * rounds))
    show('program start to first step done', first_steps)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f'{build}/fer', 'draw', '--out', f'{folder}/faces', '--train', '320',
                        '--test', '32'], check=True, stdout=subprocess.DEVNULL)
        for name, task in (('epoch of 320 JPEG files, augmented', 'epoch'),
                           ('resize, 320 images, one thread', 'resize'),
                           ('augmentation, 320 images, same', 'augment')):
            show(name, medians(sides, (task, f'{folder}/faces', 320), few))
    print('train step by batch and image size')
    for batch, size in ((1, 224), (8, 224), (16, 224), (64, 224), (32, 96), (32, 112), (32, 160),
                        (8, 448)):
        show(f'  {batch} x {size} x {size}', medians(sides, ('train', batch, size), few))
    for side in sides + servers:
        side.close()


def compare_with_avx2(build, pythons, threads, rounds):
    """Both sides as they are on a processor without AVX-512."""
    print('\nwith AVX2 alone')
    sides, _ = start(build, pythons, threads, {'ONEDNN_MAX_CPU_ISA': 'AVX2',
                                               'ATEN_CPU_CAPABILITY': 'avx2',
                                               'MKL_ENABLE_INSTRUCTIONS': 'AVX2'})
    show_names(sides)
    show('train step, 32 x 224 x 224', medians(sides, ('train', 32, 224), rounds))
    show('evaluation, 32 x 224 x 224', medians(sides, ('evaluate', 32, 224), rounds))
    for side in sides:
        side.close()


def threads_against_one(build, rounds):
    one, two = Side([f'{build}/network_benchmark'], 1), Side([f'{build}/network_benchmark'], 2)
    times = medians([one, two], ('train', 32, 224), rounds)
    print(f'\nchalk, train step: 1 thread {times[0]:.0f} ms, 2 threads {times[1]:.0f} ms, '
          f'{times[0] / times[1]:.2f} times as fast')
    one.close()
    two.close()


def climb_the_ladder(build, threads, rounds):
    """The network with every rung for all of its convolutions and products, then with fusion."""
    print('\nchalk by rung, 32 x 224 x 224             train step   evaluation')
    rungs = [('im2col', 'eigen', 0), ('gemm', 'blocked', 0), ('winograd2', 'blocked', 0),
             ('automatic', 'blocked', 0), ('automatic', 'eigen', 1), ('automatic', 'blocked', 1)]
    sides = [Side([f'{build}/network_benchmark'], threads, limits={
        'CHALK_CONV': convolution, 'CHALK_MATMUL': product, 'CHALK_FUSED': str(fused)})
             for convolution, product, fused in rungs]
    train = medians(sides, ('train', 32, 224), max(3, rounds // 2))
    evaluate = medians(sides, ('evaluate', 32, 224), max(3, rounds // 2))
    for (convolution, product, fused), *times in zip(rungs, train, evaluate):
        print(f'  {convolution:10s} {product:8s} {"fused" if fused else "not fused":10s}'
              f'{times[0]:17.1f} ms {times[1]:9.1f} ms', flush=True)
    for side in sides:
        side.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--build', required=True, help='folder of the built programs')
    parser.add_argument('--avx2-build', help='folder of the programs built for AVX2 alone')
    parser.add_argument('--python', action='append',
                        help='a Python that has PyTorch; several are measured side by side')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--rounds', type=int, default=7)
    options = parser.parse_args()
    pythons = options.python or [sys.executable]
    print(f'{processor()}; {options.threads} threads; medians of {options.rounds}')
    compare(options.build, pythons, options.threads, options.rounds)
    if options.avx2_build:
        compare_with_avx2(options.avx2_build, pythons, options.threads, options.rounds)
    if options.threads > 1:
        threads_against_one(options.build, options.rounds)
    climb_the_ladder(options.build, options.threads, options.rounds)


if __name__ == '__main__':
    main()
