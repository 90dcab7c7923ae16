"""Instance normalization in early stages: where it is, and what it computes, against float64 by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50

import recalib
from recalib.errors import RecalibError
from recalib.models.ibn import HalfInstanceNorm, InstanceNormBlock, ibn_


def standardized(x, dims):
    """Zero mean and unit biased variance over some dimensions."""
    mean, var = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


def affine(x, norm):
    weight, bias = (p.detach().double()[None, :, None, None] for p in (norm.weight, norm.bias))
    return x * weight + bias


def shuffled(network):
    """Weights and biases of norms that are not 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network


def test_scheme_a_normalizes_half_of_the_channels_per_image_and_half_over_the_batch():
    norm = shuffled(nn.Sequential(nn.BatchNorm2d(6)))[0]
    x = torch.randn(4, 6, 5, 7, dtype=torch.float64)
    expected = affine(torch.cat([standardized(x[:, :3], (2, 3)), standardized(x[:, 3:], (0, 2, 3))], 1), norm)
    torch.testing.assert_close(HalfInstanceNorm(norm).double()(x), expected)


def test_scheme_b_normalizes_the_sum_before_the_activation():
    plain = shuffled(resnet18().layer1[1]).double()
    block = shuffled(InstanceNormBlock(plain)).double()
    x = torch.randn(2, 64, 8, 9, dtype=torch.float64)
    y = F.relu(affine(standardized(plain.conv1(x), (0, 2, 3)), plain.bn1))
    y = affine(standardized(plain.conv2(y), (0, 2, 3)), plain.bn2)
    torch.testing.assert_close(block(x), F.relu(affine(standardized(y + x, (2, 3)), block.IN)))


def test_scheme_b_leaves_a_bottleneck_as_it_was_but_for_that():
    plain = resnet50().layer1[0].eval()
    x = torch.randn(2, 64, 8, 8)
    block = InstanceNormBlock(plain).eval()
    block.IN = nn.Identity()
    torch.testing.assert_close(block(x), plain(x))


def test_keys_are_those_of_the_authors_code():
    a, b = resnet50(), resnet50()
    ibn_(a, "a")
    ibn_(b, "b")
    new_a, new_b = ({*network.state_dict()} - {*resnet50().state_dict()} for network in (a, b))
    tracked = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    blocks = [f"layer{stage}.{i}.bn1" for stage, count in ((1, 3), (2, 4), (3, 6)) for i in range(count)]
    assert new_a == {f"{block}.BN.{key}" for block in blocks for key in tracked} | {
        f"{block}.IN.{key}" for block in blocks for key in ("weight", "bias")
    }
    assert new_b == {f"layer{i}.IN.{key}" for i in ("1.2", "2.3") for key in ("weight", "bias")}
    assert {key for key in resnet50().state_dict() if key not in b.state_dict()} == {
        f"bn1.{key}" for key in ("running_mean", "running_var", "num_batches_tracked")
    }


@pytest.mark.parametrize("scheme", ["a", "b"])
@pytest.mark.parametrize("attention", recalib.attention_names())
def test_every_attention_goes_into_every_block_and_out_again(scheme, attention):
    network = resnet18(num_classes=3).eval()
    ibn_(network, scheme)
    keys, x = set(network.state_dict()), torch.randn(2, 3, 32, 32)
    before = network(x)
    assert len(recalib.insert_(network, attention, identity=True).sites) == 8
    torch.testing.assert_close(network(x), before)
    recalib.remove_(network)
    assert set(network.state_dict()) == keys


def test_attention_works_on_the_branch_before_the_instance_norm():
    network = resnet18().eval()
    ibn_(network, "b")
    recalib.insert_(network, lambda channels: nn.Threshold(1e9, 0.0))  # attention that erases the branch
    block, x = network.layer1[1], torch.randn(1, 64, 6, 6)
    torch.testing.assert_close(block(x), F.relu(block.IN(x)))


def test_group_norms_keep_the_size_of_their_groups():
    half = HalfInstanceNorm(nn.GroupNorm(4, 16))
    x = torch.randn(3, 16, 5, 5)
    groups = standardized(x[:, 8:].reshape(3, 2, 4, 5, 5), (2, 3, 4)).reshape(3, 8, 5, 5)
    torch.testing.assert_close(half(x)[:, 8:], groups, rtol=1e-4, atol=1e-5)


def test_an_unknown_scheme_or_network_is_named():
    with pytest.raises(RecalibError, match="unknown ibn scheme 'c'"):
        ibn_(resnet18(), "c")
    with pytest.raises(RecalibError, match="Linear has no stages"):
        ibn_(nn.Linear(1, 1), "a")
