"""Whole tails at inference against module after module in float64; run as `triton_cases` is."""

import copy
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from recalib import create_attention
from recalib.attention import ECA, SE
from recalib.ops import Affine, passes, passes_triton, plans_triton, recalibrate
from recalib.ops.norm import Bias
from recalib.ops.reference import compose

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
MANY = "RECALIB_MANY_SHAPES" in os.environ  # each compiles variants of its own
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
GATES = {"ab": {}, "eca": {"kernel_size": 5}, "eca_ns": {}, "srm": {}, "gct": {}, "se": {}, "multi_se": {}}
FORMS = {  # of the launches, and what makes a small map take them
    "by rule": {},
    "two passes": {"_SMALL": 0},
    "split": {"_SMALL": 0, "_PROGRAMS_PER_PROCESSOR": 10**6},
    "gate apart": {"_SMALL": 0, "_WAVES": 0},
}
FIXTURES = [HealthCheck.function_scoped_fixture]  # what they patch is the same for every example
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, beneath the interpreter
every_gate = pytest.mark.parametrize("name", GATES)


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """Kernels wherever the tensors lie; gives the names of those that a plan launched."""
    seen, launch = [], plans_triton._Step.launch
    monkeypatch.setattr(passes, "has_kernels", lambda _: True)
    monkeypatch.setattr(
        plans_triton._Step, "launch", lambda step, *a: seen.append(step.kernel.fn.__name__) or launch(step, *a)
    )
    return seen


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    force(monkeypatch, request.param)
    return request.param


def force(monkeypatch, form):
    for name, value in FORMS[form].items():
        monkeypatch.setattr(plans_triton if hasattr(plans_triton, name) else passes_triton, name, value)


def gate_and_norm(name, channels, **options):
    """Both with every parameter and statistic in play, at inference, in double precision on the CPU."""
    torch.manual_seed(channels)
    modules = nn.ModuleList((create_attention(name, channels, **GATES[name], **options), nn.BatchNorm2d(channels)))
    for t in (*modules.parameters(), *modules.buffers()):
        if t.is_floating_point():
            nn.init.uniform_(t, 0.2, 1.2)
            signs = torch.where(torch.rand_like(t) < 0.5, -1, 1) if t.requires_grad else 1
            t.data.mul_(signs * (t.shape[1] ** -0.5 if t.ndim == 2 else 1))  # so that no sigmoid saturates
    return modules.double().eval().requires_grad_(False)


def drawn(shape, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shape))
    maps = torch.randn(2, *shape, generator=generator, dtype=torch.double) * 2 + 0.5
    return [t.contiguous(memory_format=layout) for t in maps]


def check(name, shape, dtype=torch.float32, layout=torch.contiguous_format, with_norm=True, relu=True, **options):
    gate, norm = gate_and_norm(name, shape[1], **options)
    norm = norm if with_norm else None
    x, r = (t.to(dtype) for t in drawn(shape, layout))
    r = r if relu else None
    modules = [m if m is None else copy.deepcopy(m).to(DEVICE, dtype) for m in (norm, gate)]
    exact = [m if m is None else copy.deepcopy(m).to(dtype).double() for m in (norm, gate)]  # of the rounded parameters
    launches = plans_triton.plan(x.to(DEVICE), *modules, None if r is None else r.to(DEVICE), relu)
    y = launches(x.to(DEVICE), None if r is None else r.to(DEVICE))
    assert (y.dtype, y.stride()) == (dtype, x.stride())
    with torch.no_grad():
        wanted = compose(x.double(), *exact, None if r is None else r.double(), relu)
    limit = {torch.float64: 1e-6, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(y.cpu().double(), wanted, rtol=limit, atol=limit * 4)  # eps is a float32 in a kernel


@every_gate
def test_every_form_of_the_launches_is_the_tail(name, form, launched):
    check(name, (1, 40, 5, 7), layout=torch.channels_last)
    reach = {"ab": "own", "srm": "own", "eca": "near", "eca_ns": "near"}.get(name, "all")
    hidden = ["hidden"] if "se" in name else []
    expected = ["moments", *hidden, "tail"]
    if form == "by rule" and reach == "own":
        expected = ["whole"]
    if form == "gate apart" and reach == "all":
        expected = ["moments", *hidden, "gate", "integrate"]
    assert launched == expected


@every_gate
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_bfloat16_in_every_layout(name, layout):
    check(name, (2, 24, 3, 5), torch.bfloat16, layout)


@pytest.mark.parametrize("name", ["srm", "eca", "multi_se"])  # one of each reach: the maps are read alike
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_other_precisions(name, dtype):
    check(name, (2, 24, 3, 5), dtype, torch.channels_last)


@every_gate
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 2), (1, 17, 5, 5), (3, 70, 2, 3), (1, 300, 1, 1)], ids=str)
def test_awkward_shapes(name, shape):
    if name == "eca_ns" and shape[1] == 1:
        pytest.skip("one kernel for each of one channel is one kernel")
    check(name, shape)


@every_gate
def test_channels_that_are_no_multiple_in_every_form(name, form):
    check(name, (1, 17, 5, 5))


@pytest.mark.parametrize("name", ["ab", "gct", "multi_se"])
@settings(max_examples=50 if MANY else 4, deadline=None, derandomize=True, suppress_health_check=FIXTURES)
@given(shape=st.tuples(*(st.integers(1, n) for n in (3, 90, 9, 9))), with_norm=st.booleans(), relu=st.booleans())
def test_any_shape(name, shape, with_norm, relu):
    check(name, shape, with_norm=with_norm, relu=relu)


@pytest.mark.parametrize("name", ["gct", "se", "multi_se"])
def test_a_site_of_many_tiles(name):
    check(name, (1, 1056 if INTERPRETED else 2048, 1, 2))  # 66 hidden channels of SE: tiles are of 64


@every_gate
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_positions_of_a_large_map_are_split_and_combined(name, layout, monkeypatch):
    force(monkeypatch, "split")
    check(name, (1, 4, 40, 33), layout=layout)


@every_gate
def test_no_norm_no_shortcut_no_relu(name, form):
    check(name, (2, 20, 3, 3), with_norm=False, relu=False)


@pytest.mark.parametrize("name", ["eca", "eca_ns", "srm", "se", "multi_se"])
def test_the_blend_of_an_identity_start(name):
    check(name, (2, 20, 3, 3), identity=True)


@pytest.mark.parametrize("name", ["se", "multi_se"])
def test_layers_without_biases(name):
    check(name, (2, 20, 3, 3), bias=False)


@every_gate
def test_the_bias_of_a_convolution_in_place_of_a_norm(name, form):
    gate, norm = (m.float().to(DEVICE) for m in gate_and_norm(name, 20))
    bias = Bias(norm.bias)
    x, r = (t.float().to(DEVICE) for t in drawn((2, 20, 3, 5)))
    y = plans_triton.plan(x, bias, gate, r, True)(x, r)
    with torch.no_grad():
        torch.testing.assert_close(y, compose(x, bias, gate, r, True), rtol=1e-4, atol=1e-4)


def test_a_norm_alone_is_one_launch(launched):
    _, norm = gate_and_norm("ab", 20)
    x, r = (t.float().to(DEVICE) for t in drawn((2, 20, 3, 5)))
    norm = norm.float().to(DEVICE)
    torch.testing.assert_close(plans_triton.plan(x, norm, None, r, True)(x, r), compose(x, norm, None, r, True))
    assert launched == ["tail"]


@every_gate
def test_nan_and_inf_go_where_the_gate_lets_them(name, form):
    gate, norm = gate_and_norm(name, 20)
    x, r = drawn((4, 20, 3, 3))
    x[1:, 3, 0, 2] = torch.tensor([float("nan"), float("inf"), -float("inf")])  # and one image without
    y = plans_triton.plan(x.to(DEVICE), norm.to(DEVICE), gate.to(DEVICE), r.to(DEVICE), True)(
        x.to(DEVICE), r.to(DEVICE)
    )
    with torch.no_grad():
        wanted = compose(x, norm.cpu(), gate.cpu(), r, True)
    torch.testing.assert_close(y.cpu(), wanted, rtol=1e-5, atol=1e-5, equal_nan=True)


@every_gate
@pytest.mark.parametrize("with_norm", [True, False], ids=["norm", "no norm"])
def test_recalibrate_takes_them_at_inference(name, with_norm, launched):
    gate, norm = (m.float().to(DEVICE) for m in gate_and_norm(name, 20))
    norm = norm if with_norm else None
    x, r = (t.float().to(DEVICE) for t in drawn((2, 20, 3, 5)))
    with torch.no_grad():
        got = recalibrate(x, norm, gate, r)
        assert launched
        torch.testing.assert_close(got, compose(x, norm, gate, r, True), rtol=1e-4, atol=1e-4)
    launched.clear()
    torch.testing.assert_close(recalibrate(x, norm, gate, r), got)  # nothing here wants a gradient
    assert launched
    launched.clear()
    recalibrate(x.requires_grad_(), norm, gate, r)
    assert not launched


def test_training_subclasses_hooks_and_large_layers_take_the_gate_as_it_is_written(launched):
    class Halved(SE):
        def gate(self, moments):
            return Affine(super().gate(moments).scale / 2)

    def taken(gate, channels=16, images=2, norm=None):
        launched.clear()
        recalibrate(torch.randn(images, channels, 2, 2, device=DEVICE), norm, gate.to(DEVICE), None, "none")
        return bool(launched)

    with torch.no_grad():
        assert taken(SE(16).eval())
        assert not taken(Halved(16).eval())
        assert not taken(SE(16).eval(), norm=nn.BatchNorm2d(16).to(DEVICE))
        assert not taken(create_attention("srm", 16))
        assert not taken(SE(4096).eval(), 4096, 5)
        hooked = create_attention("se", 16, identity=True)
        hooked.blend.register_forward_hook(lambda *_: None)
        assert not taken(hooked)
    assert not taken(ECA(16))


def test_maps_that_are_not_dense_or_differ_from_their_shortcut_go_through_operators(launched):
    gate = SE(16).eval().to(DEVICE)
    x = torch.randn(2, 16, 4, 4, device=DEVICE)
    with torch.no_grad():
        for u, r in ((x[:, :, ::2], x[:, :, ::2]), (x, x.contiguous(memory_format=torch.channels_last))):
            torch.testing.assert_close(recalibrate(u, None, gate, r), compose(u, None, gate, r, True))
    assert not launched


def test_dispatch_modes_see_operators(launched):
    from torch.utils.flop_counter import FlopCounterMode

    gate = SE(16).eval().to(DEVICE).requires_grad_(False)
    x = torch.randn(2, 16, 4, 4, device=DEVICE)
    with torch.no_grad(), FlopCounterMode(display=False):
        recalibrate(x, None, gate)
    assert not launched


def test_plans_forget_nothing_that_changes(launched):
    """The second call of a kind goes by the plan; every change after it is seen."""
    gate, norm = (m.float().to(DEVICE) for m in gate_and_norm("srm", 20))
    x, r = (t.float().to(DEVICE) for t in drawn((2, 20, 3, 5)))

    def agrees():
        with torch.no_grad():
            torch.testing.assert_close(
                recalibrate(x, norm, gate, r), compose(x, norm, gate, r, True), rtol=1e-4, atol=1e-4
            )

    agrees()
    agrees()
    gate.weight.mul_(-2)  # in place
    agrees()
    gate.load_state_dict({k: v * 2 for k, v in gate.state_dict().items()}, assign=True)
    agrees()
    gate.weight = nn.Parameter(gate.weight + 1)
    agrees()
    gate.half().float()
    agrees()
    norm.running_mean.data = torch.randn(20, device=DEVICE)
    agrees()
    norm = nn.BatchNorm2d(20).to(DEVICE).eval()
    agrees()
    calls = []
    handle = gate.bn.register_forward_hook(lambda *_: calls.append(1))
    recalibrate(x, norm, gate, r)
    assert calls
    handle.remove()
    gate.bn.train()
    with torch.no_grad():
        launched.clear()
        recalibrate(x, norm, gate, r)
    assert not launched
