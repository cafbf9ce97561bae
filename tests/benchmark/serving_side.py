"""ONNX Runtime's or OpenVINO's side of bench.py: evaluation of the network of torch_side.py.

    python serving_side.py onnxruntime|openvino

Both are what trained networks are served with. They get the network in ONNX's format, for one shape,
which they know best how to make fast, and the threads that OMP_NUM_THREADS says.
"""
import os
import sys
import tempfile
import warnings

import numpy
import torch

from torch_side import answer, images_of, network

THREADS = int(os.environ['OMP_NUM_THREADS'])


def with_onnxruntime(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda x: session.run(None, {'images': x})[0]


def with_openvino(path):
    model = openvino.Core().compile_model(path, 'CPU', {
        'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': THREADS,
        'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda x: model(x)[0]


def load(batch, size):
    """The network for that shape, and images for it."""
    x = images_of(batch, size).contiguous()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporter, which names its own successor
        path = f'{folder}/network.onnx'
        torch.onnx.export(network, x, path, input_names=['images'], dynamo=False)
        run = load_network(path)
    with torch.inference_mode():
        numpy.testing.assert_allclose(run(x.numpy()), network(x).numpy(), rtol=1e-3, atol=1e-3)
    return run, x.numpy()


def evaluate(batch, size):
    if (batch, size) not in loaded:
        loaded[batch, size] = load(int(batch), int(size))
    run, x = loaded[batch, size]
    run(x)


if sys.argv[1] == 'onnxruntime':
    import onnxruntime
    load_network, greeting = with_onnxruntime, f'ONNX Runtime {onnxruntime.__version__}'
else:
    import openvino
    load_network, greeting = with_openvino, f'OpenVINO {openvino.__version__.split("-")[0]}'
network.eval()
loaded = {}
answer({'evaluate': evaluate}, greeting)
