"""chalk beside PyTorch on this machine: `./chalk bench`.

Both run in turn, in processes of their own, on the same number of threads; a line is the median of
several runs of each and their ratio. PyTorch runs at its best: channels last, and a malloc that
keeps what is freed.
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
    """A process that runs tasks; see network_benchmark.cpp and torch_side.py."""

    def __init__(self, command, threads, greets=False):
        # The limits keep glibc from giving freed memory back: what tuned mallocs do.
        tuned = {'MALLOC_TRIM_THRESHOLD_': '-1', 'MALLOC_MMAP_THRESHOLD_': '4294967296'}
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), **tuned)
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
            elapsed = side.run(*task)
            if turn > 0:
                results.append(elapsed)
    return [statistics.median(results) for results in times]


def show(name, chalk, torch=None, unit='ms', better='lower'):
    if torch is None:
        print(f'{name:34s} {chalk:10.1f} {unit:3s}', flush=True)
        return
    ratio = torch / chalk if better == 'lower' else chalk / torch
    print(f'{name:34s} {chalk:10.1f} {unit:3s} {torch:10.1f} {unit:3s} {ratio:8.2f} x', flush=True)


def compare(build, python, threads, rounds):
    chalk = Side([f'{build}/network_benchmark'], threads)
    chalk.run('train', 32, 224)
    first_step = (time.perf_counter() - chalk.started) * 1e3
    torch = Side([python, f'{HERE}/torch_side.py'], threads, greets=True)
    if torch.name:
        torch.run('train', 32, 224)
        torch_first = (time.perf_counter() - torch.started) * 1e3
        sides = [chalk, torch]
    else:
        print(f'\nchalk alone, since PyTorch does not start with {python}: install python3-torch and '
              'python3-torchvision,\nor name a Python that has them with --python')
        torch_first = None
        sides = [chalk]
    print(f'\n{torch.name or "no PyTorch"}; {processor()}; medians of {rounds}')
    print(f'{"":34s} {"chalk":>14s}' + (f' {"PyTorch":>14s} {"ratio":>8s}' if torch.name else ''))
    show('train step, 32 x 224 x 224', *medians(sides, ('train', 32, 224), rounds))
    show('peak memory of training', *(side.run('memory') for side in sides), unit='MB')
    show('evaluation, 32 x 224 x 224', *medians(sides, ('evaluate', 32, 224), rounds))
    show('latency, batch 1', *medians(sides, ('evaluate', 1, 224), 4 * rounds))
    show('program start to first step', first_step, torch_first)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f'{build}/fer', 'draw', '--out', f'{folder}/faces', '--train', '320',
                        '--test', '32'], check=True, stdout=subprocess.DEVNULL)
        show('epoch of 320 JPEG files, augmented',
             *medians(sides, ('epoch', f'{folder}/faces', 320), max(2, rounds // 3)))
        for name, task in (('resize, 320 images, one thread', 'resize'),
                           ('augmentation, 320 images', 'augment')):
            show(name, *medians(sides, (task, f'{folder}/faces', 320), max(2, rounds // 3)))
    print('\ntrain step, ms, by batch and image size')
    for batch, size in ((1, 224), (8, 224), (16, 224), (64, 224), (32, 96), (32, 112), (32, 160),
                        (8, 448)):
        show(f'  {batch} x {size} x {size}',
             *medians(sides, ('train', batch, size), max(2, rounds // 3)))
    for side in sides:
        side.close()


def threads_against_one(build, rounds):
    one, two = Side([f'{build}/network_benchmark'], 1), Side([f'{build}/network_benchmark'], 2)
    times = medians([one, two], ('train', 32, 224), rounds)
    print(f'\nchalk, train step: 1 thread {times[0]:.0f} ms, 2 threads {times[1]:.0f} ms, '
          f'{times[0] / times[1]:.2f} times as fast')
    one.close()
    two.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--build', required=True, help='folder of the built programs')
    parser.add_argument('--python', default=sys.executable, help='a Python that has PyTorch')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--rounds', type=int, default=7)
    options = parser.parse_args()
    compare(options.build, options.python, options.threads, options.rounds)
    if options.threads > 1:
        threads_against_one(options.build, options.rounds)


if __name__ == '__main__':
    main()
