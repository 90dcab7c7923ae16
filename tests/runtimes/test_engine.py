"""TensorRT's engines are named by all that they depend on and built once; running one needs a GPU."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recalib.errors import WorkFailed
from recalib.runtimes import Settings, Unsupported, engine, find_protocol, find_runtime
from recalib.runtimes.engine import BuildPlace, engine_key

HERE = BuildPlace("10.9.0", "NVIDIA A100", (8, 0))


def test_an_engine_has_another_name_for_every_network_shape_precision_version_and_device():
    shape = (1, 3, 224, 224)
    keys = [
        engine_key(b"a", shape, "fp16", HERE),
        engine_key(b"b", shape, "fp16", HERE),
        engine_key(b"a", (2, 3, 224, 224), "fp16", HERE),
        engine_key(b"a", shape, "tf32", HERE),
        engine_key(b"a", shape, "fp16", BuildPlace("11.0.0", "NVIDIA A100", (8, 0))),
        engine_key(b"a", shape, "fp16", BuildPlace("10.9.0", "NVIDIA H200", (8, 0))),
        engine_key(b"a", shape, "fp16", BuildPlace("10.9.0", "NVIDIA A100", (8, 6))),
    ]
    assert len(set(keys)) == len(keys)
    assert engine_key(b"a", shape, "fp16", HERE) == keys[0]


def test_an_engine_is_built_once(tmp_path, monkeypatch):
    built = []

    def build(network, timings, *, tf32):
        built.append((network, timings.parent, tf32))
        return b"plan of " + network

    monkeypatch.setenv("RECALIB_CACHE", str(tmp_path))
    monkeypatch.setattr(engine.BuildPlace, "here", lambda: HERE)
    monkeypatch.setattr(engine, "build", build)
    for _ in range(2):
        assert engine.engine(b"net", (1, 3, 8, 8), "tf32") == b"plan of net"
    assert engine.engine(b"net", (1, 3, 8, 8), "fp32") == b"plan of net"
    assert built == [(b"net", tmp_path / "tensorrt", True), (b"net", tmp_path / "tensorrt", False)]
    assert not list(tmp_path.rglob("*.part"))


def stand_in(*, reads=True, builds=True):
    """The calls that `build` makes, by the names that TensorRT 10 and 11 give them, recorded."""
    said = []
    config = SimpleNamespace(
        set_flag=lambda flag: said.append(("set", flag)),
        clear_flag=lambda flag: said.append(("clear", flag)),
        create_timing_cache=lambda content: said.append(("timings", content)) or content,
        set_timing_cache=lambda cache, ignore_mismatch: True,
        get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"measured"),
    )
    builder = SimpleNamespace(
        create_network=lambda flags: said.append(("network", flags)),
        create_builder_config=lambda: config,
        build_serialized_network=lambda network, config: b"plan" if builds else None,
    )
    parser = SimpleNamespace(
        parse=lambda network: reads, get_error=lambda i: SimpleNamespace(desc=lambda: "no kernel for Gate")
    )
    module = SimpleNamespace(
        Logger=type("Logger", (), {"ERROR": 2, "__init__": lambda self, level: None}),
        Builder=lambda logger: builder,
        OnnxParser=lambda network, logger: parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=3),
        BuilderFlag=SimpleNamespace(TF32="TF32"),
    )
    return module, said


def test_networks_are_strongly_typed_tf32_is_off_unless_asked_for_and_timings_are_kept(tmp_path, monkeypatch):
    module, said = stand_in()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert engine.build(b"net", tmp_path / "timings", tf32=False) == b"plan"
    assert said == [("network", 1 << 3), ("clear", "TF32"), ("timings", b"")]
    engine.build(b"net", tmp_path / "timings", tf32=True)
    assert said[4:] == [("set", "TF32"), ("timings", b"measured")]


@pytest.mark.parametrize(
    ("can", "message"), [({"reads": False}, "does not read.*no kernel for Gate"), ({"builds": False}, "cannot build")]
)
def test_what_tensorrt_does_not_take_is_said_in_a_line(can, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(**can)[0])
    with pytest.raises(WorkFailed, match=message):
        engine.build(b"net", tmp_path / "timings", tf32=False)


@pytest.mark.skipif(engine.missing() is None, reason="what is said without TensorRT or a GPU")
def test_without_tensorrt_or_a_gpu_the_runtime_says_what_is_missing():
    settings = Settings("fp16", 1, torch.device("cpu"), find_protocol("clean"))
    with pytest.raises(Unsupported, match=r"tensorrt.* (not installed: pip install '.*\[tensorrt\]'|needs an)"):
        find_runtime("tensorrt").prepare(nn.Identity(), torch.zeros(1, 3, 4, 4), settings)


@pytest.mark.skipif(engine.missing() is not None, reason="TensorRT and an NVIDIA GPU are needed to build an engine")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 1e-2), ("fp16", 1e-2), ("int8", 0.2)])
def test_an_engine_computes_what_the_network_does(precision, tolerance, tmp_path, monkeypatch):
    monkeypatch.setenv("RECALIB_CACHE", str(tmp_path))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    images = torch.randn(2, 3, 12, 12)
    settings = Settings(precision, 1, torch.device("cuda"), find_protocol("clean"))
    session = find_runtime("tensorrt").prepare(network.eval(), images, settings)
    with torch.no_grad():
        expected = network(images)
    assert float((session.output().float() - expected).abs().max() / expected.abs().max()) < tolerance
