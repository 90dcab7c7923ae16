"""Where attention goes by default, and how sites are counted in stages."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from recalib import RecalibError
from recalib.models import cifar_resnet
from recalib.surgery import Site, sites


def torchvision_model(name, **options):
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNets compute their widths as tensors
        return torchvision.models.get_model(name, weights=None, **options)


def timm_model(name, **options):
    with torch.device("meta"):
        return timm.create_model(name, **options)


def summary(model):
    """Number of sites, and the channels at the sites of each stage."""
    found = sites(model)
    widths = {}
    for site in found:
        widths.setdefault(site.stage, set()).add(site.channels)
    assert list(widths) == list(range(len(widths)))
    return len(found), [sorted(widths[stage]) for stage in widths]


def stages(*widths):
    return [[width] for width in widths]


MOBILENET = stages(16, 24, 32, 64, 96, 160, 320)
EFFICIENTNET = stages(16, 24, 40, 80, 112, 192, 320)


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "resnet18": (8, stages(64, 128, 256, 512)),
        "resnet50": (16, stages(256, 512, 1024, 2048)),
        "resnext50_32x4d": (16, stages(256, 512, 1024, 2048)),
        "wide_resnet50_2": (16, stages(256, 512, 1024, 2048)),
        "regnet_x_400mf": (22, stages(32, 64, 160, 400)),
        "regnet_y_400mf": (16, stages(48, 104, 208, 440)),
        "mobilenet_v2": (17, MOBILENET),
        "mobilenet_v3_large": (15, stages(16, 24, 40, 80, 112, 160)),
        "efficientnet_b0": (16, EFFICIENTNET),
        "efficientnet_v2_s": (40, stages(24, 48, 64, 128, 160, 256)),
        "mnasnet1_0": (16, stages(24, 40, 80, 96, 192, 320)),
        "convnext_tiny": (18, stages(96, 192, 384, 768)),
    }.items(),
)
def test_torchvision_networks(name, expected):
    assert summary(torchvision_model(name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "resnet18": (8, stages(64, 128, 256, 512)),
        "resnet50d": (16, stages(256, 512, 1024, 2048)),
        "resnext50_32x4d": (16, stages(256, 512, 1024, 2048)),
        "resnetv2_50": (16, stages(256, 512, 1024, 2048)),
        "regnetx_004": (22, stages(32, 64, 160, 384)),
        "mobilenetv2_100": (17, MOBILENET),
        "mobilenetv3_large_100": (15, stages(16, 24, 40, 80, 112, 160)),
        "efficientnet_b0": (16, EFFICIENTNET),
        "tf_efficientnetv2_s": (40, stages(24, 48, 64, 128, 160, 256)),
        "mnasnet_100": (17, stages(16, 24, 40, 80, 96, 192, 320)),
        "convnext_atto": (12, stages(40, 80, 160, 320)),
    }.items(),
)
def test_timm_networks(name, expected):
    assert summary(timm_model(name)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 56}, (27, stages(16, 32, 64))),
        ({"depth": 56, "block": "bottleneck"}, (18, stages(64, 128, 256))),
        ({"depth": 20, "version": 2}, (9, stages(16, 32, 64))),
    ],
)
def test_cifar_networks(options, expected):
    assert summary(cifar_resnet(**options)) == expected


def test_a_site_is_named_after_its_block():
    assert sites(torchvision_model("resnet18"))[:3] == [
        Site("layer1.0", 64, 0),
        Site("layer1.1", 64, 0),
        Site("layer2.0", 128, 1),
    ]


def test_the_backbone_of_a_detector_has_sites_under_its_own_name():
    detector = torchvision_model("fasterrcnn_resnet50_fpn", weights_backbone=None)
    assert sites(detector)[0] == Site("backbone.body.layer1.0", 256, 0)
    assert len(sites(detector)) == 16


def test_a_block_that_is_used_twice_is_one_site():
    block = torchvision.models.resnet.BasicBlock(4, 4)
    assert [site.name for site in sites(nn.Sequential(nn.Sequential(block, block), nn.Sequential(block)))] == ["0.0"]


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "vgg11": (5, ["features.1", "features.4", "features.9", "features.14", "features.19"]),
        "shufflenet_v2_x0_5": (16, ["stage2.0", "stage2.1"]),
        "densenet121": (4, ["features.denseblock1", "features.denseblock2"]),
        "squeezenet1_1": (8, ["features.3", "features.4", "features.6"]),
    }.items(),
)
def test_without_residual_additions_attention_goes_after_each_block(name, expected):
    found = sites(torchvision_model(name))
    assert {site.kind for site in found} == {"blocks"}
    assert len(found) == expected[0]
    assert [site.name for site in found][: len(expected[1])] == expected[1]


@pytest.mark.parametrize(
    ("kind", "names", "count"),
    [
        ("residual", ["layer1.0", "layer1.1", "layer2.0"], 8),
        ("blocks", ["layer1.0", "layer1.1", "layer2.0"], 8),
        ("stages", ["layer1", "layer2", "layer3", "layer4"], 4),
        ("convs", ["relu", "layer1.0.relu", "layer1.0.bn2"], 20),
    ],
)
def test_every_kind_of_site_has_channels_and_resolution(kind, names, count):
    found = sites(torchvision_model("resnet18"), kind)
    assert [site.name for site in found][: len(names)] == names
    assert len(found) == count
    assert {site.kind for site in found} == {kind}
    assert found[-1].channels == 512
    assert found[-1].size == (7, 7)


def test_an_unknown_kind_is_one_line():
    with pytest.raises(RecalibError, match="unknown kind of sites 'block'; did you mean blocks"):
        sites(torchvision_model("resnet18"), "block")
