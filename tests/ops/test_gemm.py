"""A 1x1 convolution that recalibrates, by torch's own operators, and torch's rules for operators."""

import itertools

import pytest
import torch

from recalib.ops.gemm import recalibrated_conv

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(layout, dtype=torch.double, size=(2, 6, 5, 3)):
    n, c, *rest = size
    h, residual = (torch.randn(n, k, *rest, dtype=dtype).contiguous(memory_format=layout) for k in (c, 4))
    return h, torch.randn(4, c, dtype=dtype), torch.randn(4, dtype=dtype), *torch.randn(2, n, 4, dtype=dtype), residual


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("given", list(itertools.product([True, False], repeat=4)), ids=str)
def test_it_is_the_formula_with_whatever_operands_there_are(given, layout):
    h, weight, *rest = drawn(layout)
    bias, scale, shift, residual = (t if there else None for t, there in zip(rest, given, strict=True))
    y = torch.einsum("nchw,kc->nkhw", h, weight)
    y = y if bias is None else y + bias[:, None, None]
    y = y if scale is None else y * scale[..., None, None]
    y = y if shift is None else y + shift[..., None, None]
    y = y if residual is None else y + residual
    for relu in (True, False):
        got = recalibrated_conv(h, weight, bias, scale, shift, residual, relu)
        torch.testing.assert_close(got, y.relu() if relu else y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("size", [(2, 6, 5, 3), (1, 1, 1, 1), (3, 6, 1, 1), (0, 6, 2, 2)], ids=str)
def test_operators_keep_torchs_rules(size, layout):
    tests = ("test_schema", "test_faketensor")  # it is for inference: there is no gradient to register
    arguments = (*drawn(layout, torch.float32, size), True)
    torch.library.opcheck(torch.ops.recalib.recalibrated_conv.default, arguments, test_utils=tests)


def test_a_gate_in_float32_leaves_the_map_in_its_own_precision():
    h, weight, bias, scale, shift, residual = (t.bfloat16() for t in drawn(torch.channels_last))
    got = recalibrated_conv(h, weight, bias, scale.float(), shift.float(), residual, True)
    assert got.dtype == torch.bfloat16
