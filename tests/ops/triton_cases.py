"""The Triton kernels against the formulas; run by test_passes_triton.py under Triton's interpreter, or on a GPU."""

import os
import sys
from pathlib import Path

import pytest
import torch
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from recalib import create_attention
from recalib.ops import fold, fold_triton, passes, passes_triton
from recalib.ops import triton_kernels as kernels
from recalib.ops.reference import compose
from recalib.ops.tail import tail

sys.path.insert(0, str(Path(__file__).parent))
import fold_cases
from passes_cases import DTYPES, LAYOUTS, check, check_moments

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
MANY = "RECALIB_MANY_SHAPES" in os.environ  # each compiles variants of its own

AWKWARD = [
    (2, 3, 5, 7),  # rows of odd length
    (1, 1, 1, 1),
    (3, 8, 1, 1),
    (1, 70, 13, 1),  # more channels than a tile has, and not a multiple
    (2, 24, 4, 4),  # rows of a multiple of 8, not of 16
    (1, 2, 70, 71),  # several tiles: positions are split and combined
]

layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@layouts
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_type_and_layout(dtype, layout):
    check(passes_triton, (2, 24, 3, 5), dtype, layout, DEVICE)


@layouts
@pytest.mark.parametrize("shape", AWKWARD, ids=str)
def test_awkward_shapes(shape, layout):
    check(passes_triton, shape, torch.float32, layout, DEVICE, optional=MANY)


@settings(max_examples=100 if MANY else 8, deadline=None, derandomize=True)
@given(st.tuples(*(st.integers(1, n) for n in (3, 70, 6, 6))), st.sampled_from(list(LAYOUTS.values())))
def test_any_shape(shape, layout):
    check(passes_triton, shape, torch.float32, layout, DEVICE, optional=MANY)


@layouts
def test_splits_are_combined_exactly(layout, monkeypatch):
    monkeypatch.setattr(passes_triton, "_PROGRAMS_PER_PROCESSOR", 10**6)
    x = (torch.randn(1, 2, 90, 101) + 50).to(DEVICE).contiguous(memory_format=layout)
    tile = passes_triton.Tile(x)
    assert tile.splits == 16, "a power of two, so that some are empty"
    assert tile.tiles in (9, 18)
    check_moments(passes_triton, x, torch.float32)


@layouts
def test_maps_of_one_tail_in_two_layouts_are_refused(layout):
    x, other = torch.randn(2, 4, 3, 5, device=DEVICE), torch.randn(2, 4, 3, 5, device=DEVICE)
    x = x.contiguous(memory_format=layout)
    other = other.contiguous(memory_format=next(one for one in LAYOUTS.values() if one != layout))
    stats = passes_triton.moments(x, 2)
    with pytest.raises(AssertionError, match="one layout"):
        passes_triton.integrate(x, None, None, None, other, True)
    with pytest.raises(AssertionError, match="one layout"):
        passes_triton.mask_and_reduce(x, other, x, None, True)
    with pytest.raises(AssertionError, match="one layout"):
        passes_triton.differentiate(x, stats[0], other, stats, stats)


def test_a_batch_that_fills_half_of_the_processor_is_not_split(monkeypatch):
    monkeypatch.setattr(passes_triton, "processors", lambda _: 132)
    maps = (torch.empty(n, 256, 56, 56, device="meta", memory_format=torch.channels_last) for n in (1, 8, 256))
    assert [passes_triton.Tile(x).splits for x in maps] == [16, 16, 1]


def test_a_variance_survives_a_large_mean():
    x = (torch.randn(2, 3, 32, 32) + 1000).to(DEVICE)
    exact = x.double().var((2, 3), correction=0)
    torch.testing.assert_close(passes_triton.moments(x, 2)[1].double(), exact, rtol=1e-4, atol=0)


def test_an_outlier_at_the_pivot_costs_no_precision():
    x = torch.randn(1, 1, 64, 64).to(DEVICE)
    x[0, 0, 0, 0] = 1e6
    exact = x.double().var((2, 3), correction=0)
    torch.testing.assert_close(passes_triton.moments(x, 2)[1].double(), exact, rtol=1e-3, atol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, beneath the interpreter
def test_nan_and_inf_propagate():
    x = (
        torch.tensor([float("nan"), float("inf"), -float("inf"), -1.0], device=DEVICE)
        .view(1, 4, 1, 1)
        .repeat(1, 1, 2, 2)
    )
    y = passes_triton.integrate(x, None, None, None, None, True)
    assert str(y[0, :, 0, 0].tolist()) == "[nan, inf, 0.0, 0.0]"
    assert str(passes_triton.moments(x, 1)[0, 0].tolist()) == "[nan, inf, -inf, -1.0]"
    assert str(passes_triton.moments(x, 2)[0, 0].tolist()) == "[nan, inf, -inf, -1.0]"
    assert passes_triton.moments(x, 2)[1, 0].isnan().tolist() == [True, True, True, False]
    dm, _ = passes_triton.mask_and_reduce(torch.ones_like(x), x, None, None, False)
    assert dm[0, :, 0, 0].tolist() == [1, 1, 0, 0]


def test_an_empty_batch_launches_nothing():
    x = torch.empty(0, 3, 2, 2, device=DEVICE)
    assert passes_triton.moments(x, 2).shape == (2, 0, 3)
    assert passes_triton.integrate(x, None, None, None, x, True).shape == x.shape


@pytest.mark.skipif(not INTERPRETED, reason="the interpreter can run the last program alone")
@layouts
def test_offsets_reach_maps_of_more_than_2_to_the_31_values(layout, monkeypatch, tmp_path):
    """The last tile of four images of 2^30 values, in files of which only that tile exists."""
    from triton.runtime import interpreter

    def sparse(count, name, dtype=torch.float16):
        return torch.from_file(str(tmp_path / name), shared=True, size=count, dtype=dtype)

    images, channels, positions, bc, bp = 4, 1024, 2**20, 64, 16
    x, y, dm = (sparse(images * channels * positions, name) for name in ("x", "y", "dm"))
    last = slice(-bc, None) if layout == torch.channels_last else slice(-bp, None)  # of one row of the tile
    x[last], dm[last] = 3, 2
    parts, first = positions // bp, images * channels // bc
    stats, scale = torch.zeros(2, images, channels), torch.ones(images, channels)
    sums = sparse(parts * 2 * images * channels, "sums", torch.float32)
    tile = {"C_UNIT": 16, "P_UNIT": 16, "CHANNELS_LAST": layout == torch.channels_last, "BC": bc, "BP": bp}

    def launch(kernel, *operands, **constants):
        kernel[(1,)](*operands, channels // 16, positions // 16, **tile, **constants)

    only = (first * parts - 1, 0, 0)
    builder = type(interpreter.interpreter_builder)
    monkeypatch.setattr(builder, "set_grid_idx", lambda self, *_: setattr(self, "grid_idx", only))
    monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)  # would copy the void
    launch(kernels.integrate, x, None, scale, None, x, y, ACC=tl.float32, RELU=True, SPLITS=parts)
    assert y[last].tolist() == [6] * len(y[last])
    launch(kernels.differentiate, dm, scale, x, stats, stats, y, images, ACC=tl.float32, ORDER=2, SPLITS=parts)
    assert y[last].tolist() == [2] * len(y[last])
    launch(kernels.moments, x, sums, images, ORDER=2, SPLITS=parts)
    at = ((parts - 1) * 2 * images + images - 1) * channels + channels - 1
    assert sums[at] == (3 / bp if layout == torch.channels_last else 3)
    launch(kernels.mask_and_reduce, dm, x, x, None, y, sums, images, ORDER=2, SPLITS=parts)
    products = sums[at + images * channels]
    assert products == (6 if layout == torch.channels_last else 6 * bp)
    assert y[last].tolist() == [2] * len(y[last])


@pytest.mark.parametrize("dtype", fold_cases.TOLERANCES, ids=str)
@pytest.mark.parametrize(("images", "channels"), [(1, 1), (3, 17), (130, 5)])
def test_small_operators(images, channels, dtype):
    fold_cases.check(fold_triton, images, channels, dtype, DEVICE)


def test_half_precision_parameters_of_a_norm_keep_float32_statistics():
    stats = torch.rand(2, 4, 3, device=DEVICE)
    weight = torch.rand(3, device=DEVICE).half()
    exact = fold_triton.normalize(stats, None, None, weight.float(), None, 1e-5, 0)
    fold_cases.assert_near(fold_triton.normalize(stats, None, None, weight, None, 1e-5, 0), [t.double() for t in exact])


@layouts
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ["se", "srm", "ab"])
def test_a_whole_tail_and_its_gradients(name, training, layout, monkeypatch):
    monkeypatch.setattr(passes, "backend_of", lambda _: passes_triton)
    monkeypatch.setattr(fold, "_backend", lambda _: fold_triton)
    torch.manual_seed(0)
    norm, gate = torch.nn.BatchNorm2d(6), create_attention(name, 6)
    for p in (*gate.parameters(), norm.weight, norm.running_mean):
        torch.nn.init.normal_(p)
    modules = torch.nn.ModuleList((norm, gate)).double().to(DEVICE).train(training)
    x, r = (
        torch.randn(3, 6, 3, 5).double().to(DEVICE).contiguous(memory_format=layout).requires_grad_() for _ in range(2)
    )
    outcomes = []
    for run in (tail, compose):
        y = run(x, norm, gate, r, True)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), (x, r, *modules.parameters()))])
    for got, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)  # eps is a float32 in a kernel
