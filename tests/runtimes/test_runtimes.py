"""Every runtime runs a network as PyTorch does; what one cannot do it says."""

import copy
import gc
import weakref

import openvino
import pytest
import torch
from torch import nn

from recalib.errors import RecalibError
from recalib.runtimes import RUNTIMES, Settings, Unsupported, find_protocol, find_runtime
from recalib.runtimes.base import not_installed
from recalib.runtimes.compile import with_own_code
from recalib.runtimes.export import to_onnx


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


def settings(precision="fp32", protocol="clean"):
    return Settings(precision, 1, torch.device("cpu"), find_protocol(protocol))


HERE = [name for name, runtime in RUNTIMES.items() if runtime.missing() is None]
IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def error(session, model):
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(IMAGES.double())
    return float((session.output().double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("protocol", ["clean", "paper"])
@pytest.mark.parametrize("name", HERE)
def test_a_session_gives_what_the_network_gives_in_float64(name, protocol):
    model = network()
    session = RUNTIMES[name].prepare(model, IMAGES, settings(protocol=protocol))
    session.run()
    assert session.output().shape == (2, 5)
    assert error(session, model) < 1e-5
    assert session.setup_s > 0
    assert (session.device, session.asynchronous) == ("cpu", False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without a GPU")
def test_a_cuda_graph_wants_a_gpu():
    with pytest.raises(Unsupported, match="cuda_graph needs an NVIDIA GPU"):
        RUNTIMES["cuda_graph"].prepare(network(), IMAGES, settings())


def test_a_mode_of_a_runtime_wants_what_is_deployed_for_that_runtime():
    for name, runtime in RUNTIMES.items():
        assert runtime.target == ("eager" if name == "cuda_graph" else name.partition("-")[0])


@pytest.mark.parametrize("name", HERE)
def test_preparing_leaves_the_model_as_it_was(name):
    model = network()
    before = copy.deepcopy(model.state_dict())
    weight = model[0].weight
    RUNTIMES[name].prepare(model, IMAGES, settings())
    assert model[0].weight is weight
    assert weight.requires_grad
    assert weight.is_contiguous()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("protocol", "autograd", "layout"), [("clean", False, "channels_last"), ("paper", True, "contiguous")]
)
def test_pytorch_runs_without_autograd_in_the_clean_protocol_and_with_it_in_the_papers(protocol, autograd, layout):
    seen = []
    model = network()
    model[2].register_forward_hook(lambda module, inputs, output: seen.append((output.requires_grad, output)))
    session = find_runtime("eager").prepare(model, IMAGES, settings(protocol=protocol))
    assert seen[0][0] == autograd
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert seen[0][1].is_contiguous(memory_format=memory_format)
    assert session.layout == layout


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 5e-2), ("fp16", 5e-3)])
@pytest.mark.parametrize("protocol", ["clean", "paper"])
def test_eager_computes_in_half_precision(precision, tolerance, protocol):
    model = network()
    session = find_runtime("eager").prepare(model, IMAGES, settings(precision, protocol))
    assert session.output().dtype == settings(precision).dtype
    assert 0 < error(session, model) < tolerance


def test_onnx_runtime_refuses_half_precision_on_a_cpu():
    with pytest.raises(Unsupported, match="onnxruntime has no bf16 on this cpu; it has fp32"):
        find_runtime("onnxruntime").prepare(network(), IMAGES, settings("bf16"))


@pytest.mark.skipif("BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16")
def test_openvino_computes_in_bf16_only_where_it_is_asked_to():
    model = network()
    assert error(find_runtime("openvino").prepare(model, IMAGES, settings("fp32")), model) < 1e-5
    assert 1e-5 < error(find_runtime("openvino").prepare(model, IMAGES, settings("bf16")), model) < 5e-2


def test_runtimes_share_one_export_which_is_forgotten_with_the_model():
    model = network()
    assert to_onnx(model, IMAGES) is to_onnx(model, IMAGES)
    assert to_onnx(model, IMAGES) is find_runtime("openvino").translate(model, IMAGES, settings())
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


class Chain(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.length = length

    def forward(self, x):
        for _ in range(self.length):
            x = self.layer(x)
        return x


def test_every_compiled_network_of_a_class_is_compiled():
    graphs = []

    def count(graph, example):
        graphs.append(graph)
        return graph

    for length in range(1, 11):  # PyTorch compiles a function for eight networks, then runs others in eager mode
        torch.compile(with_own_code(Chain(length)), backend=count)(torch.ones(2, 3))
    assert len(graphs) == 10


def test_an_unknown_runtime_or_protocol_is_named_with_the_nearest():
    with pytest.raises(RecalibError, match="unknown runtime 'onnx'; did you mean onnxruntime"):
        find_runtime("onnx")
    with pytest.raises(RecalibError, match="unknown protocol 'papr'; did you mean paper"):
        find_protocol("papr")


def test_what_is_not_installed_is_named_with_the_command_that_installs_it():
    assert not_installed(("torch",), "runtimes") is None
    assert not_installed(("torch", "no_such_thing"), "runtimes") == (
        "no_such_thing not installed: pip install 'recalib[runtimes]'"
    )
