"""The (N, C)-sized operators between the passes, in plain PyTorch, and torch's own rules for operators."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recalib.ops import fold, fold_torch

sys.path.insert(0, str(Path(__file__).parent))
from fold_cases import TOLERANCES, check


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_they_are_the_plain_formulas_forward_and_backward(dtype):
    check(fold_torch, 4, 6, dtype)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 20))
def test_they_are_so_for_any_size(images, channels):
    check(fold_torch, images, channels, torch.float64)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own checker
def test_operators_keep_torchs_rules():
    stats, weight, bias = torch.rand(2, 3, 4), torch.rand(4), torch.rand(4)
    gate, offset = torch.rand(3, 4), torch.rand(3, 4)
    ops = torch.ops.recalib
    for t in (stats, weight, bias, gate, offset):
        t.requires_grad_()
    mean = torch.rand(4)
    for order in (0, 1, 2):
        torch.library.opcheck(ops.normalize.default, (stats, None, None, weight, None, 1e-5, order))
        torch.library.opcheck(ops.normalize.default, (stats, mean, mean + 1, None, bias, 1e-5, order))
    for s, t in ((gate, offset), (gate, None), (None, offset), (None, None)):
        torch.library.opcheck(ops.combine.default, (weight, bias, bias, s, t, 3))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gradients_pass_gradcheck(order):
    stats, weight, bias = (torch.rand(n, dtype=torch.double).requires_grad_() for n in ((2, 3, 4), 4, 4))

    def run(stats, weight, bias):
        scale, centre, _, moments = fold.normalize(stats, None, weight, bias, 1e-2, order)
        return scale, centre, moments

    assert torch.autograd.gradcheck(run, (stats, weight, bias))
