"""timm's BatchNormAct2d ends the tails of its mobile networks and RegNets: without an activation it is a batch norm."""

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from recalib import create_attention, insert_, ops
from recalib.ops.norm import is_affine


@pytest.mark.parametrize(
    ("name", "tails"),
    [("mobilenetv2_100", 17), ("efficientnet_b0", 16), ("mobilenetv3_large_100", 15), ("regnetx_004", 22)],
)
def test_every_tail_is_fused_in_training(name, tails, monkeypatch):
    model = timm.create_model(name, drop_path_rate=0.1).train()
    insert_(model, "eca")
    seen, plain = [], ops.recalibrate

    def counted(x, norm=None, attention=None, *args, **kwargs):
        seen.append(attention is not None and norm is not None and is_affine(norm))
        return plain(x, norm, attention, *args, **kwargs)

    monkeypatch.setattr(ops, "recalibrate", counted)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert sum(seen) == tails


@pytest.mark.parametrize("activation", ["silu", "gelu", "hard_swish"])
def test_an_activation_that_is_no_relu_runs_after_the_fused_tail(activation):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", act_layer=activation, norm_layer=nn.BatchNorm2d).double().train()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    expected = model(x)
    insert_(model, "srm", identity=True)
    torch.testing.assert_close(model(x), expected)
    assert not isinstance(model.layer1[0].act2, nn.ReLU)


@pytest.mark.parametrize("apply_act", [False, True])
def test_the_fused_tail_is_the_modules_in_order(apply_act):
    torch.manual_seed(0)
    norm = BatchNormAct2d(8, apply_act=apply_act, act_layer=nn.SiLU).double()
    attention = create_attention("srm", 8).double()
    nn.init.normal_(attention.weight)
    x = torch.randn(4, 8, 5, 3, dtype=torch.double, requires_grad=True)
    residual = torch.randn_like(x)
    expected = attention(norm(x)) + residual
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    found = ops.recalibrate(x, norm, attention, residual, "none")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), x)[0], gradient)
