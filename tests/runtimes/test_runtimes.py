"""Every runtime runs a network as PyTorch does; what one cannot do it says."""

import copy
import gc
import os
import weakref
from pathlib import Path

import onnxruntime as ort
import openvino
import pytest
import torch
from torch import nn

from recalib.errors import RecalibError
from recalib.runtimes import RUNTIMES, Settings, Unsupported, find_protocol, find_runtime
from recalib.runtimes.compile import with_own_code
from recalib.runtimes.export import to_onnx
from recalib.runtimes.onnxruntime import CUDA, TENSORRT, OnnxSession


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


@pytest.mark.parametrize("name", HERE)
def test_a_session_takes_other_images(name):
    model = network()
    session = RUNTIMES[name].prepare(model, IMAGES, settings())
    other = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(session.infer(other), model(other))


@pytest.mark.parametrize("protocol", ["clean", "paper"])
def test_at_full_load_a_run_is_many_forward_passes_in_several_requests(protocol):
    two = Settings("fp32", 2, torch.device("cpu"), find_protocol(protocol))
    session = find_runtime("openvino-throughput").prepare(network(), IMAGES, two)
    assert session.in_flight >= 1
    assert session.batches == 4 * session.in_flight
    one_by_one = find_runtime("openvino").prepare(network(), IMAGES, two)
    assert (one_by_one.in_flight, one_by_one.batches) == (1, 1)


def test_modes_of_compile_differ_in_inductors_options(monkeypatch):
    given = {}
    monkeypatch.setattr(torch, "compile", lambda forward, options, **_: given.update(options) or forward)
    for name, option in (
        ("compile", ("freezing", True)),
        ("compile-max-autotune", ("max_autotune", True)),
        ("compile-no-layout", ("layout_optimization", False)),
    ):
        given.clear()
        find_runtime(name).prepare(network(), IMAGES, settings())
        assert option in given.items()
        assert ("max_autotune" in given, "layout_optimization" in given) == (
            name == "compile-max-autotune",
            name == "compile-no-layout",
        )


@pytest.mark.skipif(len(ort.get_available_providers()) > 2, reason="what is said without onnxruntime-gpu")
@pytest.mark.parametrize(("name", "provider"), [("onnxruntime-cuda", "CUDA"), ("onnxruntime-tensorrt", "Tensorrt")])
def test_a_provider_that_is_not_in_the_installed_package_is_named_with_the_package_that_has_it(name, provider):
    with pytest.raises(Unsupported, match=f"no {provider}ExecutionProvider: .*pip install onnxruntime-gpu"):
        find_runtime(name).prepare(network(), IMAGES, settings())


@pytest.mark.skipif(len(ort.get_available_providers()) > 2, reason="onnxruntime-gpu may start its provider")
def test_a_provider_that_does_not_start_is_not_replaced_by_another():
    model = to_onnx(network(), IMAGES)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(Unsupported, match="could not start"):
        OnnxSession(model, IMAGES, settings(), CUDA)


def test_onnx_runtimes_engines_are_kept_apart_by_the_whole_network(tmp_path, monkeypatch):
    monkeypatch.setenv("RECALIB_CACHE", str(tmp_path))
    a, b = (TENSORRT.options("fp16", network)["trt_engine_cache_path"] for network in (b"a", b"b"))
    assert a != b
    assert {Path(a).parent, Path(b).parent} == {tmp_path / "onnxruntime-tensorrt"}


@pytest.mark.parametrize(("name", "have"), [("eager", "fp32, bf16, fp16"), ("onnxruntime", "fp32, int8")])
def test_tf32_on_a_cpu_is_refused_in_a_line(name, have):
    with pytest.raises(Unsupported, match=f"has no tf32 on this cpu; it has {have}"):
        find_runtime(name).prepare(network(), IMAGES, settings("tf32"))


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


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="OpenVINO offers bf16 where this forbids it, and fails")
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
