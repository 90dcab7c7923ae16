"""Tails as one module: attention with its convolution's bias, and blocks without attention in one pass."""

import sys

import pytest
import torch
from timm import create_model

from recalib import deploy, insert_
from recalib.deploy.tails import Tail, fuse_plain_
from recalib.measure.networks import perturb_


def network(attention=None):
    torch.manual_seed(0)
    model = create_model("resnet14t", num_classes=5).eval()
    if attention is not None:
        insert_(model, attention)
    perturb_(model)
    return model


def tails_of(model):
    return [module for module in model.modules() if isinstance(module, Tail)]


@pytest.fixture
def on_gpu(monkeypatch):
    """The rule of a GPU."""
    monkeypatch.setattr(sys.modules["recalib.deploy.deploy"], "form_by_rule", lambda *_: "tail")


@pytest.mark.parametrize("name", ["se", "srm"])
def test_a_tail_takes_over_its_convolutions_bias(name, on_gpu):
    model = network(name)
    deployed = deploy(model, (2, 3, 64, 64), check=False)
    tails = tails_of(deployed)
    assert len(tails) == 4
    assert all(tail.norm is not None for tail in tails)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), model(x), rtol=1e-4, atol=1e-4)


def test_blocks_without_attention_are_one_pass_behind_their_convolutions():
    model = network()
    deployed = fuse_plain_(deploy(model, (2, 3, 64, 64)))
    assert len(tails_of(deployed)) == 4
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), model(x), rtol=1e-4, atol=1e-4)
    left = [m for m in deployed.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None]
    assert len(left) < len([m for m in model.modules() if isinstance(m, torch.nn.Conv2d)])
