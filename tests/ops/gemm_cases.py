"""A 1x1 convolution that recalibrates, as a kernel against float64; run as `triton_cases` is."""

import itertools
import os

import pytest
import torch
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from recalib.ops import gemm, gemm_triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
MANY = "RECALIB_MANY_SHAPES" in os.environ  # each compiles variants of its own
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
FIXTURES = [HealthCheck.function_scoped_fixture]  # what they patch is the same for every example
SHAPES = [  # N, C_in, C_out, H, W
    (1, 3, 5, 1, 1),
    (3, 16, 24, 7, 7),
    (3, 65, 70, 5, 13),  # odd everywhere, and a rest after a whole block of input channels
    (1, 64, 130, 13, 11),  # more channels and more positions than a tile has
]


@pytest.fixture(autouse=True)
def bfloat16_products(monkeypatch):
    """Triton's interpreter keeps bfloat16 as integers and multiplies those; here it multiplies their values."""
    if not INTERPRETED:
        return
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    dot = builder.create_dot

    def widened(t):
        if t.dtype.scalar != tl.bfloat16:
            return t
        values = interpreter._convert_float(t.data, tl.bfloat16, tl.float32, None).view("float32")
        return interpreter.TensorHandle(values, tl.float32)

    monkeypatch.setattr(builder, "create_dot", lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest))


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def drawn(n, c_in, c_out, height, width, dtype):
    """Every operand, maps channels_last; scale and shift in float32, as a gate gives them."""
    generator = torch.Generator().manual_seed(c_in)

    def normal(*shape, dtype=dtype):
        return torch.randn(shape, generator=generator).to(DEVICE, dtype)

    h, residual = (normal(n, c, height, width).contiguous(memory_format=torch.channels_last) for c in (c_in, c_out))
    small = (normal(n, c_out, dtype=torch.float32) for _ in range(2))
    return h, normal(c_out, c_in) / c_in**0.5, normal(c_out), *small, residual


def exact(h, weight, bias, scale, shift, residual, relu):
    one, zero = torch.ones(1, 1, device=DEVICE), torch.zeros(1, 1, device=DEVICE)
    y = torch.einsum("nchw,kc->nkhw", h.double(), weight.double())
    y = y + (0 if bias is None else bias.double()[:, None, None])
    y = y * (one if scale is None else scale).double()[..., None, None]
    y = y + (zero if shift is None else shift).double()[..., None, None]
    y = y + (0 if residual is None else residual.double())
    return y.clamp_min(0) if relu else y


def check(operands, relu):
    h, weight = operands[:2]
    y = torch.full((len(h), len(weight), *h.shape[2:]), float("nan"), dtype=h.dtype, device=DEVICE)
    y = y.contiguous(memory_format=torch.channels_last)
    gemm_triton.launch(*operands, y, relu)
    limit = TOLERANCES[h.dtype]
    torch.testing.assert_close(y.double(), exact(*operands, relu), rtol=limit, atol=limit)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_type_and_awkward_shape(shape, dtype):
    check(drawn(*shape, dtype), True)


@settings(max_examples=100 if MANY else 8, deadline=None, derandomize=True, suppress_health_check=FIXTURES)
@given(shape=st.tuples(*(st.integers(1, n) for n in (3, 80, 80, 9, 9))), relu=st.booleans())
def test_any_shape(shape, relu):
    check(drawn(*shape, torch.float32), relu)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_smaller_tile_gives_the_same(shape, monkeypatch):
    monkeypatch.setattr(gemm_triton, "processors", lambda _: 10**6)
    check(drawn(*shape, torch.float16), True)


@pytest.mark.parametrize("given", list(itertools.product([True, False], repeat=4)), ids=str)
def test_bias_scale_shift_and_residual_may_each_be_missing(given):
    h, weight, *rest = drawn(2, 16, 20, 3, 5, torch.float32)
    check((h, weight, *(t if there else None for t, there in zip(rest, given, strict=True))), False)


def test_nan_in_one_position_stays_there_and_survives_the_relu():
    operands = drawn(2, 16, 20, 3, 5, torch.float32)
    operands[0][1, 3, 2, 4] = float("nan")
    y = torch.empty_like(operands[-1])
    gemm_triton.launch(*operands, y, True)
    assert y[1, :, 2, 4].isnan().all()
    assert int(y.isnan().sum()) == 20


def test_the_operator_runs_it(monkeypatch):
    monkeypatch.setattr(gemm, "_has_kernel", lambda *_: True)
    operands = drawn(2, 16, 20, 3, 5, torch.float32)
    y = gemm.recalibrated_conv(*operands, True)
    torch.testing.assert_close(y.double(), exact(*operands, True), rtol=1e-5, atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_other_layouts_types_and_shortcuts_are_left_to_torch():
    with FakeTensorMode(), torch.device("cuda"):
        h = torch.empty(2, 16, 4, 4).to(memory_format=torch.channels_last)
        weight, residual = torch.empty(20, 16), torch.empty(2, 20, 4, 4).to(memory_format=torch.channels_last)
        assert gemm._has_kernel(h, weight, residual)
        assert gemm._has_kernel(h.half(), weight.half(), None)
        assert not gemm._has_kernel(h.contiguous(), weight, None)
        assert not gemm._has_kernel(h, weight, residual.contiguous())
        assert not gemm._has_kernel(h, weight, residual.half())
        assert not gemm._has_kernel(h, weight, residual[:, :, :1, :1])
        assert not gemm._has_kernel(h.double(), weight.double(), None)
        assert not gemm._has_kernel(h.half(), weight, None)


def test_an_empty_batch_launches_nothing():
    gemm_triton.launch(*drawn(0, 16, 20, 3, 5, torch.float32), torch.empty(0, 20, 3, 5, device=DEVICE), True)
