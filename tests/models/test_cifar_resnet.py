"""The CIFAR ResNets: parameter counts of three projects, and a fourth's weights on real images."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recalib import RecalibError
from recalib.attention import ECA
from recalib.models import cifar_resnet

EVERY_KIND = [
    (block, version, shortcut)
    for block in ("basic", "bottleneck")
    for version in (1, 2)
    for shortcut in ("projection", "pad")
]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_option_a_has_the_parameters_of_akamasters_networks(depth, count):
    assert parameters(cifar_resnet(depth, shortcut="pad")) == count


def test_srm_resnet32_has_the_parameters_of_the_released_network():
    assert parameters(cifar_resnet(32, attention="srm")) == 469_146


@pytest.mark.parametrize(
    ("block", "plain", "added"),
    [
        ("basic", 855_770, {"ab": 1_008, "eca": 81, "se": 7_119, "srm": 4_032, "multi_se": 24_381}),
        ("bottleneck", 591_322, {"ab": 2_688, "eca": 54, "se": 67_368, "srm": 10_752, "multi_se": 210_168}),
    ],
)
def test_resnet56_has_the_papers_parameters_with_every_module(block, plain, added):
    assert parameters(cifar_resnet(56, block=block)) == plain
    for name, count in added.items():
        assert parameters(cifar_resnet(56, block=block, attention=name)) == plain + count, name


@pytest.mark.parametrize(("block", "version", "shortcut"), EVERY_KIND)
def test_every_kind_maps_images_to_logits_and_trains_every_parameter(block, version, shortcut):
    torch.manual_seed(0)
    depth = 8 if block == "basic" else 11
    model = cifar_resnet(depth, block=block, version=version, shortcut=shortcut, attention="eca", num_classes=7)
    logits = model(torch.randn(4, 3, 32, 32))
    logits.square().sum().backward()
    assert logits.shape == (4, 7)
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("block", "version", "shortcut"), EVERY_KIND)
def test_an_attention_that_is_the_identity_changes_no_logit_and_no_key(block, version, shortcut):
    depth = 8 if block == "basic" else 11
    torch.manual_seed(0)
    plain = cifar_resnet(depth, block=block, version=version, shortcut=shortcut).eval()
    torch.manual_seed(0)
    attended = cifar_resnet(depth, block=block, version=version, shortcut=shortcut, attention="ab").eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(attended(x), plain(x), rtol=0, atol=0)
    new = attended.state_dict().keys() - plain.state_dict().keys()
    assert plain.state_dict().keys() <= attended.state_dict().keys()
    assert all(".attention." in key for key in new)


def test_attention_stands_before_the_addition_at_the_end_of_the_branch():
    model = cifar_resnet(8).eval()
    block = model.layer2[0]
    block.attention = Zero()
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(x), block.downsample(x).relu())


def test_attention_may_be_a_factory_that_gets_the_channels_of_the_block():
    model = cifar_resnet(11, block="bottleneck", attention=lambda channels: ECA(channels, kernel_size=5))
    assert [block.attention.channels for block in model.blocks()] == [64, 128, 256]
    assert {block.attention.kernel_size for block in model.blocks()} == {5}


def test_keys_are_named_as_torchvisions():
    keys = set(cifar_resnet(20).state_dict())
    assert {"conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"} <= keys
    assert {"layer2.0.downsample.1.running_var", "layer3.2.bn2.weight", "fc.weight"} <= keys


def test_the_last_map_is_8_by_8_for_a_32_by_32_image():
    shapes = []
    model = cifar_resnet(8)
    model.layer3.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    model(torch.randn(1, 3, 32, 32))
    assert shapes == [(1, 64, 8, 8)]


@pytest.mark.parametrize(
    ("depth", "block", "nearest"),
    [
        (21, "basic", "20 and 26"),
        (57, "basic", "56 and 62"),
        (56 + 1, "bottleneck", "56 and 65"),
        (2, "basic", "8 and 14"),
    ],
)
def test_a_depth_that_does_not_exist_names_the_nearest(depth, block, nearest):
    with pytest.raises(RecalibError, match=f"depth={depth}: .* the nearest are {nearest}$"):
        cifar_resnet(depth, block=block)


@pytest.mark.parametrize("wrong", [{"block": "basik"}, {"version": 3}, {"shortcut": "pads"}, {"attention": "ecca"}])
def test_an_unknown_choice_is_named(wrong):
    with pytest.raises(RecalibError, match=str(next(iter(wrong.values())))):
        cifar_resnet(20, **wrong)


def test_akamasters_weights_classify_real_images_exactly_as_an_independent_forward_pass():
    images, labels = cifar10_test_images(300)
    state = akamaster_weights("resnet20-12fca82f.th")
    model = cifar_resnet(20, shortcut="pad").double().eval()
    model.load_state_dict({k.replace("linear.", "fc."): v for k, v in state.items()})
    with torch.no_grad():
        logits = model(images)
    expected = akamaster_forward(state, images)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    correct = int((logits.argmax(1) == labels).sum())
    assert correct == int((expected.argmax(1) == labels).sum())
    assert 0.89 <= correct / len(labels) <= 0.95  # 91.73 % on all 10,000


class Zero(nn.Module):
    """An attention that silences the branch."""

    def forward(self, x):
        return torch.zeros_like(x)


def data(*parts: str) -> Path:
    root = os.environ.get("RECALIB_DATA")
    if root is None:
        pytest.skip("RECALIB_DATA is not set")
    return Path(root, *parts)


def cifar10_test_images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    from PIL import Image

    with np.load(data("cifar10", "test_batch.npz")) as batch:
        raw, offsets, labels = batch["webp"].tobytes(), batch["offsets"], batch["labels"]
    strips = [Image.open(io.BytesIO(raw[offsets[i] : offsets[i + 1]])) for i in range(count // 100)]
    pixels = np.concatenate([np.asarray(strip.convert("RGB")).reshape(-1, 32, 32, 3) for strip in strips])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(normalised)), torch.from_numpy(labels[:count].astype(np.int64))


def akamaster_weights(name: str) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(data("weights", "cifar10_resnet", name), map_location="cpu", weights_only=True)
    return {k.removeprefix("module."): v.double() for k, v in checkpoint["state_dict"].items()}


@torch.no_grad()
def akamaster_forward(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """ResNet-20 of option A, written out from the paper on the weights alone."""

    def conv_norm(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        y = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=1)
        mean, var, weight, bias = (state[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        scale = weight / (var + 1e-5).sqrt()
        return y * scale[:, None, None] + (bias - mean * scale)[:, None, None]

    x = conv_norm(x, "conv1", "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for i in range(3):
            stride = 2 if stage > 1 and i == 0 else 1
            block = f"layer{stage}.{i}"
            y = conv_norm(x, f"{block}.conv1", f"{block}.bn1", stride).clamp(min=0)
            y = conv_norm(y, f"{block}.conv2", f"{block}.bn2")
            if stride == 2:
                quarter = torch.zeros(len(x), x.shape[1] // 2, *y.shape[2:], dtype=x.dtype)
                x = torch.cat([quarter, x[:, :, ::2, ::2], quarter], 1)
            x = (x + y).clamp(min=0)
    return x.flatten(2).mean(2) @ state["linear.weight"].T + state["linear.bias"]
