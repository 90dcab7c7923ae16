"""The passes in plain PyTorch against their formulas, and the operators around them."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recalib.ops import passes, passes_torch

sys.path.insert(0, str(Path(__file__).parent))
from passes_cases import DTYPES, LAYOUTS, check

layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
WITHOUT_VALUES = ("test_schema", "test_autograd_registration", "test_faketensor")  # a link's values are nobody's
SHAPES = [(2, 3, 5, 7), (1, 1, 1, 1), (2, 24, 4, 4), (3, 8, 1, 1), (1, 130, 3, 1)]


@layouts
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_passes_compute_what_they_say(shape, dtype, layout):
    check(passes_torch, shape, dtype, layout)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.tuples(*(st.integers(1, n) for n in (5, 40, 9, 9))), st.sampled_from(list(LAYOUTS.values())))
def test_passes_compute_what_they_say_for_any_shape(shape, layout):
    check(passes_torch, shape, torch.float64, layout)


@layouts
def test_slabs_smaller_than_the_batch_change_nothing(layout, monkeypatch):
    monkeypatch.setattr(passes_torch, "_SLAB", 2 * 6 * 20)
    for dtype in DTYPES.values():
        check(passes_torch, (5, 6, 4, 5), dtype, layout)


def test_a_variance_survives_a_large_mean():
    x = torch.randn(2, 3, 32, 32, dtype=torch.double) + 1000
    exact = x.float().double().var((2, 3), correction=0)
    torch.testing.assert_close(passes_torch.moments(x.float(), 2)[1].double(), exact, rtol=1e-4, atol=0)


def test_gradients_pass_where_the_output_is_nan_and_not_where_it_is_zero():
    y = torch.tensor([float("nan"), 0.0, 1.0, -0.0]).view(1, 1, 2, 2)
    dm, _ = passes_torch.mask_and_reduce(torch.ones_like(y), y, None, None, False)
    assert dm.flatten().tolist() == [1, 0, 1, 0]


def operands(layout, relu=True):
    x, r = (torch.randn(2, 4, 3, 3).contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    c, s, t = (torch.randn(size).requires_grad_() for size in ((4,), (2, 4), (2, 4)))
    return x, r, c, s, t


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own checker
@layouts
def test_operators_keep_torchs_rules(layout):
    """Schema, fake tensors, autograd registration and tracing, by torch's own checker."""
    x, r, c, s, t = operands(layout)
    dy, y, d = torch.randn_like(x), x.relu().detach(), x.detach()
    ops = torch.ops.recalib
    for order in (0, 1, 2):
        torch.library.opcheck(ops.moments.default, (x, order), test_utils=WITHOUT_VALUES)
        stats = passes_torch.moments(d, order)
        torch.library.opcheck(ops.differentiate.default, (dy, s.detach(), d, stats, stats + 1))
    _, link = passes.moments(x, 1)
    for centre, scale, shift, residual in ((c.detach(), s, t, r), (None, s, None, None), (None, None, t, r)):
        arguments = (d, *(part.detach() for part in link), centre, scale, shift, residual, True)
        torch.library.opcheck(ops.integrate.default, arguments)
    for mask, values in ((y, d), (None, d), (y, None)):
        torch.library.opcheck(ops.mask_and_reduce.default, (dy, mask, values, c.detach(), True))


def test_a_second_derivative_is_refused():
    x, _, _, s, _ = operands(torch.contiguous_format)
    stats, link = passes.moments(x, 1)
    y = passes.integrate(x, link, None, s * stats[0], None, None, False)
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="recalib"):
        dx.sum().backward()


def test_only_a_shift_in_training_needs_nothing_of_x_saved():
    x, _, _, _, t = operands(torch.contiguous_format)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda v: saved.append(v.shape) or v, lambda v: v):
        _, link = passes.moments(x, 1)
        passes.integrate(x, link, None, None, t, None, False)
    assert x.shape not in saved


def test_double_precision_has_no_kernels_since_an_eps_is_a_float32_there():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        found = {d: passes.has_kernels(torch.empty(2, 3, 4, 4, dtype=d, device="cuda")) for d in DTYPES.values()}
    assert found == {dtype: passes.HAS_TRITON and dtype != torch.float64 for dtype in DTYPES.values()}
