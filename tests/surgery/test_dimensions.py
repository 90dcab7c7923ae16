"""Maps (N, C, L) and (N, C, D, H, W): a gate on moments does to them what it does to the same pixels in a column."""

import pytest
import torch
from torch import nn

import recalib
from recalib.attention.base import Attention
from recalib.ops import recalibrate

SHAPES = {1: (3, 8, 24), 3: (3, 8, 2, 3, 4)}
GATES = [name for name in recalib.attention_names() if isinstance(recalib.create_attention(name, 8), Attention)]


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("name", GATES)
def test_a_gate_sees_pixels_and_not_their_arrangement(name, dims):
    torch.manual_seed(0)
    attention = recalib.create_attention(name, 8).double().eval()
    for p in attention.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(SHAPES[dims], dtype=torch.double, requires_grad=True)
    y = attention(x)
    torch.testing.assert_close(y, attention(x.reshape(3, 8, 6, 4)).reshape(x.shape))
    assert torch.autograd.gradcheck(attention, x, fast_mode=True)


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_a_tail_is_its_modules_one_after_the_other(dims, training):
    torch.manual_seed(0)
    norm = getattr(nn, f"BatchNorm{dims}d")(8).train(training)
    attention = recalib.create_attention("se", 8)
    x, residual = torch.randn(SHAPES[dims]), torch.randn(SHAPES[dims])
    expected = (attention(norm(x)) + residual).relu()
    norm.reset_running_stats()
    torch.testing.assert_close(recalibrate(x, norm, attention, residual), expected)
    plain = getattr(nn, f"Conv{dims}d")(8, 8, 1)
    torch.testing.assert_close(recalibrate(x, None, plain, residual, "none"), plain(x) + residual)


@pytest.mark.parametrize("dims", SHAPES)
def test_insertion_and_deployment_follow(dims, lively):
    conv, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"BatchNorm{dims}d")

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv(8, 8, 3, padding=1), norm(8)

        def forward(self, x):
            return (x + self.norm(self.conv(x))).relu()

    torch.manual_seed(0)
    model = lively(nn.Sequential(conv(8, 8, 1), Block(), Block())).eval()
    x = torch.randn(SHAPES[dims])
    expected = model(x)
    assert len(recalib.insert_(model, "srm", identity=True).sites) == 2
    assert torch.equal(model(x), expected)
    lively(model)
    deployed = recalib.deploy(model, x)
    torch.testing.assert_close(deployed(x), model(x), rtol=1e-4, atol=1e-5)
    assert deployed.about.parts == ("",)
