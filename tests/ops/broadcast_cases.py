"""The wider law's Triton kernels against operator after operator in float64; run as `triton_cases` is."""

import copy
import os
import sys

import pytest
import torch
from torch import nn

from recalib import attention_names, create_attention
from recalib.attention import BroadcastAttention
from recalib.ops import Gates, broadcast, broadcast_triton, passes, passes_triton
from recalib.ops.broadcast import composed, observe
from recalib.ops.broadcast_law import Maximum

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
SHAPE = (2, 6, 5, 4)
NAMES = [name for name in attention_names() if isinstance(create_attention(name, SHAPE[1]), BroadcastAttention)]
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, beneath the interpreter
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
FLAT = ("mean", "maximum", "variance", "weighted_sum", "pixel_mean", "pixel_maximum")
LINES = ("row_mean", "row_maximum", "column_mean", "column_maximum")


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """Kernels wherever the tensors lie, whatever the size; gives the names of those that were launched."""
    seen, law = [], sys.modules["recalib.ops.broadcast"]
    monkeypatch.setattr(passes, "has_kernels", lambda _: True)
    monkeypatch.setattr(law, "WORTHWHILE_ON_GPU", 0)
    for name in ("observe", "apply", "reduce", "unscale", "differentiate"):
        function = getattr(broadcast_triton, name)
        monkeypatch.setattr(broadcast_triton, name, lambda *a, f=function: seen.append(f.__name__) or f(*a))
    return seen


def drawn(shape, dtype=torch.float32, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=generator) * 2 + 0.5
    return x.to(DEVICE, dtype).contiguous(memory_format=layout)


def check(name, shape, dtype=torch.float32, layout=torch.contiguous_format, **options):
    """Output and every gradient, by the kernels and by operators in float64."""
    torch.manual_seed(0)
    module = name(shape[1]) if isinstance(name, type) else create_attention(name, shape[1], **options)
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)
    module = module.to(DEVICE)
    same = copy.deepcopy(module).double()
    x = drawn(shape, dtype, layout)
    cotangent = torch.linspace(-1, 2, x.numel(), device=DEVICE).view(x.shape)
    outcomes = []
    for run, m, t in ((broadcast, module, x), (composed, same, x.double())):
        t = t.detach().requires_grad_()
        blend = None if m.blend is None else (m.blend.weight, m.blend.bias)
        y = run(t, m.steps(), blend, tuple(m.parameters())) if run is broadcast else run(t, m.steps(), blend)
        outcomes.append([y, *torch.autograd.grad(y, [t, *m.parameters()], cotangent.to(y.dtype))])
    assert (outcomes[0][0].dtype, outcomes[0][0].stride()) == (dtype, x.stride())
    for got, wanted in zip(*outcomes, strict=True):
        limit = TOLERANCES[dtype] * max(wanted.abs().max().item(), 1)
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=limit)


@layouts
@pytest.mark.parametrize("name", NAMES)
def test_every_mechanism_is_its_plain_form(name, layout, launched):
    check(name, SHAPE, layout=layout, identity=layout == torch.channels_last)
    two = ["observe"] * 2 if name == "cbam" else ["observe"]
    assert launched == [*two, "apply", "reduce", *(["unscale"] if name == "cbam" else []), "differentiate"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(name, dtype):
    check(name, SHAPE, dtype, torch.channels_last)


@layouts
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 70, 3, 5), (2, 5, 1, 7), (1, 3, 40, 33)], ids=str)
@pytest.mark.parametrize("name", ["cbam", "triplet"])
def test_awkward_shapes(name, shape, layout):
    check(name, shape, layout=layout)


class Everything(BroadcastAttention):
    """Every statistic, and a gate of each kind."""

    reads = (*FLAT[:3], *FLAT[4:], *LINES)
    combined = "product"

    def __init__(self, channels, identity=True, **factory):
        super().__init__(channels, identity, **factory)
        self.weight = nn.Parameter(torch.ones(channels, **factory))

    def gates(self, s):
        w = self.weight.to(s.mean.dtype)
        of_channel = torch.sigmoid(w * (s.mean - s.maximum) / (s.variance + 1).sqrt())[:, :, None, None]
        of_row = torch.sigmoid(s.row_mean - 0.3 * s.row_maximum).unsqueeze(3)
        of_column = torch.sigmoid(0.3 * s.column_maximum - s.column_mean).unsqueeze(2)
        of_pixel = torch.sigmoid(s.pixel_mean - 0.2 * s.pixel_maximum).unsqueeze(1)
        return Gates((of_pixel, of_channel, of_column, of_row), self.combined)


class Mean(Everything):
    combined = "mean"


class TwoOfAKind(Everything):
    """No kernels for two gates of channels: the other passes."""

    def gates(self, s):
        gates = super().gates(s)
        return Gates((gates.factors[1], *gates.factors), self.combined)


@layouts
@pytest.mark.parametrize("law", [Everything, Mean, TwoOfAKind])
def test_all_kinds_of_gates_and_statistics_together(law, layout, launched):
    check(law, (2, 9, 5, 6), layout=layout)
    assert ("apply" in launched) == (law is not TwoOfAKind)


@layouts
@pytest.mark.parametrize("reads", [FLAT, FLAT + LINES, ("maximum",), ("mean", "row_mean"), FLAT[4:]], ids=str)
def test_statistics_of_maps_in_many_tiles_and_parts(reads, layout, monkeypatch):
    monkeypatch.setattr(passes_triton, "_PROGRAMS_PER_PROCESSOR", 10**6)
    x = drawn((1, 70, 9, 37), layout=layout) + 100
    x[0, 1] += 1000  # squares are centred
    weights = torch.randn(70, 9, 37, device=DEVICE) if "weighted_sum" in reads else None
    found = broadcast_triton.observe(x, None, reads, weights)
    wanted = observe(x.double(), reads, weights)
    for name in reads:
        values = found[name].values if isinstance(found[name], Maximum) else found[name]
        torch.testing.assert_close(values.double(), getattr(wanted, name), rtol=1e-4, atol=1e-2 * (name == FLAT[3]))


@layouts
def test_of_equal_values_one_is_the_maximum_the_first(layout):
    x = torch.zeros(1, 3, 4, 5, device=DEVICE).contiguous(memory_format=layout)
    reads = ("maximum", "row_maximum", "column_maximum", "pixel_maximum")
    assert all((found.indices == 0).all() for found in broadcast_triton.observe(x, None, reads).values())
    x[0, 2, 3, 4] = -0.0
    x[0, :2] = -1
    found = broadcast_triton.observe(x, None, reads)
    assert (found["pixel_maximum"].indices == 2).all()
    assert found["maximum"].values.tolist() == [[-1, -1, 0]]


def test_a_maximum_is_nan_where_there_is_one_and_infinities_are_in_order():
    x = torch.full((1, 4, 1, 3), -float("inf"), device=DEVICE)
    x[0, 1, 0, 1], x[0, 2, 0, 2], x[0, 3, 0, 0] = -2.0, float("inf"), -float("nan")
    found = broadcast_triton.observe(x, None, ("maximum", "row_maximum"))
    assert str(found["maximum"].values[0].tolist()) == "[-inf, -2.0, inf, nan]"
    assert found["maximum"].indices[0, 1:].tolist() == [1, 2, 0]


def test_maps_that_are_not_dense_or_of_double_precision_take_the_plain_passes(launched):
    for x in (torch.randn(2, 6, 5, 8, device=DEVICE)[..., ::2], torch.randn(SHAPE, device=DEVICE).double()):
        module = create_attention("simam", 6)
        x.requires_grad_()
        torch.testing.assert_close(module(x), composed(x, module.steps()), rtol=1e-5, atol=1e-5)
    assert not launched
