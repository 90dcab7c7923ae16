"""ScratchDet's backbone: the facts of its authors' SSDRES512."""

import torch
from torch import nn

import recalib
from recalib.models.ssd_resnet import RootResNet34


def test_an_image_of_512_pixels_gives_seven_maps():
    with torch.no_grad():
        maps = RootResNet34().eval()(torch.randn(1, 3, 512, 512))
    shapes = [tuple(feature.shape[1:]) for feature in maps.values()]
    assert shapes == [(256, 64, 64), (512, 32, 32), *((128, side, side) for side in (16, 8, 4, 2, 1))]


def test_the_stem_is_three_convolutions_of_stride_one():
    body = RootResNet34().body
    stem = [m for m in body.conv1 if isinstance(m, nn.Conv2d)]
    facts = [(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride) for conv in stem]
    assert facts == [(inputs, 64, (3, 3), (1, 1)) for inputs in (3, 64, 64)]
    assert [len(body.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert body(torch.randn(1, 3, 64, 64)).shape == (1, 512, 4, 4)


def test_attention_in_the_body_is_sixteen_modules_as_in_the_paper():
    backbone = RootResNet34()
    assert len(recalib.insert_(backbone.body, "se").sites) == 16


def test_convolutions_begin_with_xaviers_weights():
    weight = RootResNet34().body.layer4[2].conv2.weight
    bound = (6 / (2 * 512 * 9)) ** 0.5
    assert weight.abs().max() <= bound
    torch.testing.assert_close(weight.std().item(), bound / 3**0.5, rtol=0.01, atol=0)
