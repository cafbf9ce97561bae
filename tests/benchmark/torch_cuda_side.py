"""PyTorch's side of cuda_bench.py: train steps and evaluation of the FER network on a GPU.

The argument is how: eager (TF32, channels last, fused AdamW), graph (the same, the whole step
recorded), compile (torch.compile with graphs), amp (bfloat16). Reads a task a line, answers with a
line of JSON; where there is no GPU, with the reason.

  train BATCH SIZE, evaluate BATCH SIZE    ms of a step, and the peak of memory
  count TASK BATCH SIZE                    its kernels and copies. Times after this one are no good:
                                           PyTorch's profiler slows down what follows
"""
import json
import sys
import time

STEPS = 20  # between two waits for the device, as in cuda_benchmark.cpp


def prepare(mode):
    """Returns make_run(task, batch, size): a function that does one step."""
    import torch
    import torch.nn.functional as F
    from torch_side import FerNet
    if not torch.cuda.is_available():
        raise RuntimeError(f'PyTorch {torch.__version__} finds no GPU')
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True

    def make_run(task, batch, size):
        torch.manual_seed(1)
        module = FerNet().cuda().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True,
                                      capturable=mode == 'graph')
        x = torch.rand(batch, 3, size, size, device='cuda').to(memory_format=torch.channels_last)
        y = torch.arange(batch, device='cuda') % 7
        network = torch.compile(module, mode='reduce-overhead') if mode == 'compile' else module

        def forward():
            with torch.autocast('cuda', torch.bfloat16, enabled=mode == 'amp'):
                return network(x)

        def train():
            optimizer.zero_grad(set_to_none=mode != 'graph')
            F.cross_entropy(forward().float(), y).backward()
            optimizer.step()

        def evaluate():
            with torch.no_grad():
                forward()

        module.train(task == 'train')
        run = train if task == 'train' else evaluate
        if mode != 'graph':
            return run
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(5):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    return make_run


def count_kernels(run):
    import torch
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CUDA]) as result:
        run()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in result.events())


def measure(run):
    import torch
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(STEPS):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS * 1e3


def main():
    runs = {}
    make_run = problem = None
    try:
        make_run = prepare(sys.argv[1])
    except Exception as error:  # no PyTorch, none with CUDA, no GPU
        problem = str(error)
    for line in sys.stdin:
        words = line.split()
        task = tuple(words[-3:])
        try:
            if make_run is None:
                raise RuntimeError(problem)
            import torch
            if task not in runs:
                run = make_run(task[0], int(task[1]), int(task[2]))
                for _ in range(10):
                    run()
                runs[task] = run
            if words[0] == 'count':
                answer = {'launches': count_kernels(runs[task])}
            else:
                answer = {'ms': measure(runs[task]),
                          'memory_mb': torch.cuda.max_memory_allocated() / 2 ** 20}
        except Exception as error:
            answer = {'unavailable': ' '.join(str(error).split())[:200]}
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()
