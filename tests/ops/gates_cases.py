"""Whole gates in one kernel against the gates themselves in float64; run as `triton_cases` is."""

import copy
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from recalib import create_attention
from recalib.attention import ECA, SE
from recalib.ops import Affine, Moments, fold, gates, passes, passes_triton, recalibrate
from recalib.ops.contract import ask
from recalib.ops.norm import normalized
from recalib.ops.reference import compose
from recalib.ops.tail import tail

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
GATES = {
    "ab": {},
    "eca": {"kernel_size": 5},
    "eca_ns": {},
    "srm": {},
    "gct": {},
    "se": {},
    "multi_se": {},
}
FIXTURES = [HealthCheck.function_scoped_fixture]  # what they patch is the same for every example
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, beneath the interpreter
every_gate = pytest.mark.parametrize("name", GATES)


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Kernels wherever the tensors lie; gives the list of those that ran."""
    seen, run = [], gates._gate
    monkeypatch.setattr(fold, "has_kernels", lambda _: True)
    monkeypatch.setattr(passes, "backend_of", lambda _: passes_triton)
    monkeypatch.setattr(gates, "_gate", lambda *operands: seen.append(operands[3]) or run(*operands))
    return seen


def gate_and_norm(name, channels, **options):
    """Both with every parameter and statistic in play, at inference, in double precision on the CPU."""
    torch.manual_seed(channels)
    modules = nn.ModuleList((create_attention(name, channels, **GATES[name], **options), nn.BatchNorm2d(channels)))
    for t in (*modules.parameters(), *modules.buffers()):
        if t.is_floating_point():
            nn.init.uniform_(t, 0.2, 1.2)
            signs = torch.where(torch.rand_like(t) < 0.5, -1, 1) if t.requires_grad else 1
            t.data.mul_(signs * (t.shape[1] ** -0.5 if t.ndim == 2 else 1))  # so that no sigmoid saturates
    return modules.double().eval()


def drawn(images, channels):
    generator = torch.Generator().manual_seed(images)
    return torch.randn(2, images, channels, generator=generator, dtype=torch.double).add_(
        torch.tensor([0.0, 6.0]).view(2, 1, 1)
    )


def expected(gate, norm, stats, size):
    """Scale and shift of x, by the gate's own operators behind the norm's."""
    a, b, moments = 1, 0, stats
    if norm is not None:
        a, _, b, moments = normalized(norm, stats, size, 2)
    scale, shift = ask(gate, Moments(*moments, size))
    scale, shift = (torch.full_like(stats[0], i) if t is None else t for i, t in ((1, scale), (0, shift)))
    return scale * a, scale * b + shift


def check(name, images, channels, dtype=torch.float32, size=49, with_norm=True, **options):
    gate, norm = gate_and_norm(name, channels, **options)
    norm = norm if with_norm else None
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    stats = drawn(images, channels)[: 1 + gate.needs_variance]
    here = [m if m is None else copy.deepcopy(m).to(DEVICE, dtype) for m in (gate, norm)]
    exact = [m if m is None else copy.deepcopy(m).to(dtype).double() for m in (gate, norm)]  # of the rounded parameters
    with torch.no_grad():
        centre, *got = gates.in_one_kernel(*here, stats.to(DEVICE, wide), size)
        with pytest.MonkeyPatch.context() as plain:
            plain.setattr(fold, "has_kernels", lambda _: False)
            wanted = expected(*exact, drawn(images, channels), size)
    assert (centre is None) == (norm is None)
    tolerance = 1e-6 if dtype == torch.float64 else 2e-5  # eps is a float32 in a kernel
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == wide
        torch.testing.assert_close(a.cpu().double(), b, rtol=tolerance, atol=tolerance)


@every_gate
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_gate_in_one_kernel_is_the_gate_in_every_precision(name, dtype):
    check(name, 2, 40, dtype)


@every_gate
@pytest.mark.parametrize("channels", [1, 3, 17, 64, 300])
@pytest.mark.parametrize("images", [1, 7])
def test_awkward_sizes(name, images, channels):
    if name == "eca_ns" and channels == 1:
        pytest.skip("one kernel for each of one channel is one kernel")
    check(name, images, channels)


@settings(max_examples=6 if INTERPRETED else 50, deadline=None, derandomize=True, suppress_health_check=FIXTURES)
@given(images=st.integers(1, 5), channels=st.integers(2, 90), size=st.integers(1, 200), with_norm=st.booleans())
@every_gate
def test_any_size(name, images, channels, size, with_norm):
    check(name, images, channels, size=size, with_norm=with_norm)


@every_gate
def test_the_widest_site_of_a_resnet(name):
    check(name, 1, 1024 if name == "multi_se" else 2048)


@every_gate
@pytest.mark.parametrize("size", [1, 2])
def test_maps_of_one_or_two_values_and_no_norm(name, size):
    check(name, 2, 20, size=size, with_norm=False)


@pytest.mark.parametrize("name", ["eca", "eca_ns", "srm", "se", "multi_se"])
def test_the_blend_of_an_identity_start(name):
    check(name, 2, 20, identity=True)


@pytest.mark.parametrize("name", ["se", "multi_se"])
def test_layers_without_biases(name):
    check(name, 2, 20, bias=False)


@every_gate
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_go_where_the_gate_lets_them(name, value):
    gate, norm = gate_and_norm(name, 20)
    stats = drawn(2, 20)[: 1 + gate.needs_variance]
    stats[0, 1, 3] = value
    with torch.no_grad(), pytest.MonkeyPatch.context() as plain:
        got = gates.in_one_kernel(gate.to(DEVICE), norm.to(DEVICE), stats.to(DEVICE), 9)
        plain.setattr(fold, "has_kernels", lambda _: False)
        both = torch.cat((stats, drawn(2, 20)[len(stats) :]))
        wanted = expected(gate.cpu(), norm.cpu(), both, 9)
    for a, b in zip(got[1:], wanted, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-6, atol=1e-6, equal_nan=True)


@every_gate
@pytest.mark.parametrize("with_norm", [True, False], ids=["norm", "no norm"])
def test_a_tail_takes_it_at_inference(name, with_norm, kernels):
    gate, norm = (m.float().to(DEVICE) for m in gate_and_norm(name, 20))
    norm = norm if with_norm else None
    x, r = (torch.randn(2, 20, 3, 5, device=DEVICE) for _ in range(2))
    with torch.no_grad():
        got = tail(x, norm, gate, r, True)
        assert len(kernels) == 1
        torch.testing.assert_close(got, compose(x, norm, gate, r, True), rtol=1e-4, atol=1e-4)


def test_training_subclasses_hooks_and_large_layers_take_the_gate_as_it_is_written(kernels):
    class Halved(SE):
        def gate(self, moments):
            return Affine(super().gate(moments).scale / 2)

    def taken(gate, channels=16, images=2, norm=None):
        kernels.clear()
        tail(torch.randn(images, channels, 2, 2, device=DEVICE), norm, gate.to(DEVICE), None, False)
        return bool(kernels)

    with torch.no_grad():
        assert taken(SE(16).eval())
        assert not taken(Halved(16).eval())
        assert not taken(SE(16).eval(), norm=nn.BatchNorm2d(16).to(DEVICE))
        assert not taken(create_attention("srm", 16))
        assert not taken(SE(4096).eval(), 4096, 1)
        assert not taken(SE(1024).eval(), 1024, 17)
        hooked = create_attention("se", 16, identity=True)
        hooked.blend.register_forward_hook(lambda *_: None)
        assert not taken(hooked)
    assert not taken(ECA(16))


def test_the_operator_keeps_torchs_rules():
    gate, norm = (m.float().to(DEVICE) for m in gate_and_norm("srm", 6))
    stats = drawn(2, 6).float().to(DEVICE)
    affine = [norm.running_mean, norm.running_var, norm.weight.detach(), None]
    kernel = gate.kernel(9)
    parameters = [p.detach() for p in kernel.parameters]
    arguments = (stats, affine, norm.eps, kernel.name, parameters, [], list(kernel.numbers))
    tests = ("test_schema", "test_faketensor")  # it is for inference: there is no gradient to register
    torch.library.opcheck(torch.ops.recalib.gate.default, arguments, test_utils=tests)


@every_gate
def test_nothing_waits_for_the_device_so_that_cuda_graphs_can_record_it(name, kernels):
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        gate, norm = create_attention(name, 16).eval(), nn.BatchNorm2d(16).eval()
        recalibrate(torch.empty(1, 16, 4, 4), norm, gate)
    assert len(kernels) == 1
