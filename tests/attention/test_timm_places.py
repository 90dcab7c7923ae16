"""timm's own places for attention take the classes."""

import inspect

import pytest
import timm
import torch

import recalib
from recalib.attention import ECA, SE, Attention

X = torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("kind", [ECA, SE])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("resnet18", lambda kind: {"block_args": {"attn_layer": kind}}),
        ("efficientnet_b0", lambda kind: {"se_layer": kind}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_network_of_timm_is_made_with_it(name, place, kind):
    model = timm.create_model(name, num_classes=5, **place(kind)).eval()
    assert sum(isinstance(module, kind) for module in model.modules()) >= 8
    with torch.no_grad():
        assert model(X).shape == (2, 5)


def test_options_are_refused_as_before_and_signatures_are_the_mechanisms_own():
    with pytest.raises(TypeError, match="no_such_option"):
        SE(16, no_such_option=3)
    assert "reduction" in inspect.signature(SE).parameters
    assert "act_layer" not in inspect.signature(SE).parameters
    assert recalib.create_attention("se", 16, reduction=4).fc1.out_features == 4


def test_a_mechanism_with_an_activation_of_its_own_keeps_it():
    class Own(Attention):
        def __init__(self, channels, act_layer=None, **factory):
            super().__init__(channels, **factory)
            self.act_layer = act_layer

    assert Own(4, act_layer=torch.nn.SiLU).act_layer is torch.nn.SiLU
