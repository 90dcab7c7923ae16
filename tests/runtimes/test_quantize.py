"""int8 networks: near the network that they were made of, and the same on every processor."""

import copy
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import openvino
import pytest
import torch
from torch import nn

from recalib.runtimes import RUNTIMES, Settings, find_protocol, find_runtime
from recalib.runtimes.quantize import onnx_in
from recalib.runtimes.samples import Samples

IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
SAME = Samples(IMAGES, IMAGES, "the images that it is run on")
INT8 = Settings("int8", 1, torch.device("cpu"), find_protocol("clean"), samples=SAME)
HERE = [name for name, runtime in RUNTIMES.items() if name.startswith(("onnx", "openvino")) and not runtime.missing()]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


def distance(output, model):
    """Largest error of an output, as a part of the largest output in float64."""
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(IMAGES.double())
    return float((output.double() - expected).abs().max() / expected.abs().max())


def rounded(values, largest, bits):
    step = largest / 2 ** (bits - 1)
    return (values / step).round() * step


@torch.no_grad()
def quantised_by_hand(model, images, bits):
    """The output in float64 with inputs, weights (per output channel) and output of each layer rounded to some bits."""
    x = images.double()
    for layer in copy.deepcopy(model).double():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            largest = layer.weight.abs().flatten(1).amax(1)
            layer.weight.copy_(rounded(layer.weight, largest.reshape(-1, *[1] * (layer.weight.ndim - 1)), bits))
            x = rounded(x, x.abs().max(), bits)
        x = layer(x)
    return rounded(x, x.abs().max(), bits)


@pytest.mark.parametrize("name", HERE)
def test_int8_is_nearer_than_six_bits_but_not_the_network(name):
    model = network()
    found = distance(find_runtime(name).prepare(model, IMAGES, INT8).output(), model)
    assert found < distance(quantised_by_hand(model, IMAGES, 6), model)
    assert found > 1e-4  # float32 is within 1e-5


def test_int8_takes_its_scales_from_the_samples():
    model = network()
    tiny = Samples(IMAGES / 100, IMAGES, "images of another range")  # all but a hundredth of the range is cut off
    for name in ("onnxruntime", "openvino"):
        off = find_runtime(name).prepare(model, IMAGES, replace(INT8, samples=tiny)).output()
        assert distance(off, model) > distance(quantised_by_hand(model, IMAGES, 3), model)


def test_what_tensorrt_is_given_is_symmetric_and_holds_no_int32():
    proto = onnx.load_from_string(onnx_in(network(), IMAGES, INT8, "int8"))
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    pairs = [node for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.dtype == "int8"
        assert not zero.any()
    kernels = [node for node in pairs if constants[node.input[1]].shape == (8,)]  # a scale an output channel
    assert len(kernels) == 2


def heavy_network():
    """Every weight and pixel near the end of its range: sums of two products of uint8 and int8 leave int16."""
    model = network()
    with torch.no_grad():
        for layer in (model[0], model[5]):
            layer.weight.uniform_(0.9, 1.0)
    return nn.Sequential(*model[:3], nn.Conv2d(8, 8, 3), nn.ReLU(), *model[3:]).eval()


def weights_in_onnx(network):
    graph = onnx.load_from_string(network).graph
    arrays = [onnx.numpy_helper.to_array(one) for one in graph.initializer]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]


def weights_in_openvino(network):
    constants = [node for node in network.get_ops() if node.get_type_name() == "Constant"]
    return [node.data for node in constants if node.data.dtype == np.int8]


@pytest.mark.parametrize(("name", "weights"), [("onnxruntime", weights_in_onnx), ("openvino", weights_in_openvino)])
def test_no_sum_of_two_products_leaves_int16_where_a_processor_adds_them_there(name, weights):
    found = weights(find_runtime(name).translate(heavy_network(), IMAGES, INT8))
    assert len(found) == 3
    for array in found:
        largest = int(np.abs(array.astype(int)).max())
        assert largest > 60
        assert 255 * 2 * largest < 2**15


RUN = """
import sys
import numpy as np
runtime, network, images, output = sys.argv[1:]
if runtime == "onnxruntime":
    import onnxruntime
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    result = session.run(None, {session.get_inputs()[0].name: np.load(images)})[0]
else:
    import openvino
    result = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(np.load(images))[0]
np.save(output, result)
"""


@pytest.mark.slow(reason="emulates a processor")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a matter of x86")
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64, of Debian's package qemu-user")
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_processor_without_vnni_gives_the_same_numbers(name, tmp_path):
    made = find_runtime(name).translate(heavy_network(), IMAGES, INT8)
    file = tmp_path / ("network.onnx" if name == "onnxruntime" else "network.xml")
    if name == "onnxruntime":
        file.write_bytes(made)
    else:
        openvino.save_model(made, file, compress_to_fp16=False)
    np.save(tmp_path / "images.npy", IMAGES.numpy())
    emulated = ["qemu-x86_64", "-cpu", "max,avx512f=off", os.path.realpath(sys.executable)]
    outputs = []
    for i, python in enumerate(([sys.executable], emulated)):
        arguments = ["-c", RUN, name, str(file), str(tmp_path / "images.npy"), str(tmp_path / f"{i}.npy")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([*python, *arguments], check=True, timeout=280, env=environment)
        outputs.append(np.load(tmp_path / f"{i}.npy"))
    scale = np.abs(outputs[0]).max()
    # sums of integers are exact; float32 may round the last bit of a scale's product otherwise: one step of 1 / 255
    assert np.abs(outputs[1] - outputs[0]).max() <= scale / 255
