"""Which constants stand in for a gate, against least squares and plain sums in float64; where they fold."""

import copy

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import recalib
from recalib.attention import create_attention
from recalib.deploy.graph import trace
from recalib.ops import Affine, Moments
from recalib.study.frozen import Constant, GateSums, carrier, fold_, gates_of, takes_shift


def trained(name, channels=3, **options):
    """A module whose parameters are no longer those it starts with, in evaluation mode, float64."""
    torch.manual_seed(1)
    module = create_attention(name, channels, **options).double().eval()
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data + 0.5 * torch.rand_like(tensor)
    return module


def maps(n=40):
    return torch.randn(n, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 0.7


def summed(module, u, batches=3):
    sums = GateSums()
    for part in u.chunk(batches):
        sums.add(part, module)
    return sums


@pytest.mark.parametrize("name", ["ab", "eca", "se", "srm", "multi_se", "gct"])
def test_the_fit_is_the_least_squares_line_through_all_pixels(name):
    module, u = trained(name), maps()
    with torch.no_grad():
        y = module(u)
    fit = summed(module, u).stand_in("fit", shifts=True)
    for channel in range(3):
        x, wanted = (t[:, channel].flatten().numpy() for t in (u, y))
        slope, offset = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), wanted, rcond=None)[0]
        assert fit.scale[channel].item() == pytest.approx(slope, rel=1e-9)
        assert fit.shift[channel].item() == pytest.approx(offset, rel=1e-9)


class FollowsOne:
    """A gate that looks at its sixth channel alone."""

    needs_variance = False

    def affine(self, moments: Moments) -> Affine:
        m = moments.mean[:, 5:6]
        return Affine(0.3 + m * torch.linspace(-1, 1, 8, dtype=m.dtype), 2 * m.expand(-1, 8))


def test_a_gate_of_few_channels_is_the_best_linear_one_of_those_that_explain_most():
    u = torch.randn(40, 8, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.7
    sums = GateSums(rows=[])
    for part in u.chunk(3):
        sums.add(part, FollowsOne())
    linear = sums.linear(u)
    assert linear.chosen.tolist()[0] == 5
    assert len(linear.chosen) == 2
    affine = FollowsOne().affine(Moments(u.mean((2, 3)), None, 20))
    wanted = u * affine.scale[:, :, None, None] + affine.shift[:, :, None, None]
    torch.testing.assert_close(linear(u), wanted, rtol=1e-9, atol=1e-9)


def test_a_gate_of_few_channels_of_a_real_one_errs_as_least_squares_does():
    module, u = trained("srm", 8), torch.cat([maps()] * 3, 1)[:, :8].contiguous()
    sums = GateSums(rows=[])
    sums.add(u, module)
    linear = sums.linear(u)
    with torch.no_grad():
        scale = module.affine(Moments(*torch.unbind(sums_of(u)), 20)).scale.numpy()
    known = np.stack([*u.mean((2, 3))[:, linear.chosen].T.numpy(), np.ones(len(u))], 1)
    solved = np.linalg.lstsq(known, scale, rcond=None)[0]
    np.testing.assert_allclose(linear.weight[:, :8].numpy(), solved[:-1], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(linear.bias[:8].numpy(), solved[-1], rtol=1e-7, atol=1e-9)


def sums_of(u):
    return torch.stack([u.mean((2, 3)), u.var((2, 3), unbiased=False)])


def test_where_no_shift_can_be_taken_the_fit_goes_through_the_origin():
    module, u = trained("se"), maps()
    with torch.no_grad():
        y = module(u)
    fit = summed(module, u).stand_in("fit", shifts=False)
    assert fit.shift is None
    wanted = [(u[:, c] * y[:, c]).sum() / u[:, c].square().sum() for c in range(3)]
    torch.testing.assert_close(fit.scale, torch.stack(wanted), rtol=1e-9, atol=0)


def test_mean_and_logit_are_those_of_the_gate():
    module, u = trained("se"), maps()
    with torch.no_grad():
        gates = module.affine(recalib.ops.moments(u)).scale
    sums = summed(module, u)
    torch.testing.assert_close(sums.stand_in("mean", True).scale, gates.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(sums.stand_in("logit", True).scale, gates.logit().mean(0).sigmoid(), rtol=1e-12, atol=0)


def test_a_gate_without_a_sigmoid_has_no_logit():
    assert summed(trained("ab"), maps()).stand_in("logit", True) is None
    assert summed(trained("gct"), maps()).stand_in("logit", True) is None


def test_a_shift_has_no_stand_in_where_nothing_takes_a_shift():
    sums = summed(trained("ab"), maps())
    assert all(sums.stand_in(kind, shifts=False) is None for kind in ("mean", "logit", "fit"))


@pytest.mark.parametrize("name", ["ab", "srm"])
def test_variation_is_what_the_best_constant_misses(name):
    module, u = trained(name), maps()
    with torch.no_grad():
        y = module(u)
    sums = summed(module, u)
    missed = y - Constant(sums.stand_in("fit", True), u)(u)
    around = y - y.mean((0, 2, 3), keepdim=True)
    assert sums.variation == pytest.approx(float((missed.square().sum() / around.square().sum()).sqrt()), rel=1e-9)


def test_a_gate_that_does_not_look_at_the_image_does_not_vary():
    module = trained("se")
    nn.init.zeros_(module.fc2.weight)
    assert summed(module, maps()).variation == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.GroupNorm(3, 3), nn.Conv2d(3, 3, 1)])
def test_folding_is_exact(layer, training):
    layer = copy.deepcopy(layer).double().train(training)
    affine = Affine(torch.tensor([0.5, 2.0, -1.0]).double(), torch.tensor([1.0, 0.0, 3.0]).double())
    u = maps()
    expected = Constant(affine, u)(layer(u))
    fold_(layer, affine)
    torch.testing.assert_close(layer(u), expected, rtol=1e-12, atol=1e-12)


def test_a_convolution_without_bias_takes_a_scale_alone():
    conv = nn.Conv2d(3, 4, 3, bias=False).double()
    assert not takes_shift(conv)
    u, scale = maps(), torch.tensor([0.5, 2.0, -1.0, 3.0]).double()
    expected = conv(u) * scale[:, None, None]
    fold_(conv, Affine(scale))
    torch.testing.assert_close(conv(u), expected, rtol=1e-12, atol=1e-12)


def carriers(model):
    graph = trace(model)
    return {name: carrier(graph, node) for name, node in gates_of(graph).items()}


def test_the_layer_before_a_gate_carries_its_constant():
    model = torchvision.models.resnet18()
    recalib.insert_(model, "se")
    assert carriers(model)["layer1.0.attention"] == "layer1.0.bn2"
    mobile = torchvision.models.mobilenet_v2()
    recalib.insert_(mobile, "eca")
    assert carriers(mobile)["features.2.attention"] == "features.2.conv.3"
    timms = timm.create_model("resnetv2_50", pretrained=False)
    recalib.insert_(timms, "se")
    assert carriers(timms)["stages.0.blocks.0.attention"] == "stages.0.blocks.0.conv3"


def test_nothing_carries_a_constant_where_others_read_the_map_too():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.attention = nn.Conv2d(3, 3, 1), create_attention("se", 3)

        def forward(self, x):
            u = self.conv(x)
            return self.attention(u) + u

    assert carriers(Twice()) == {"attention": None}
