"""Networks whose blocks nobody has described: the end of the branch is found in the graph of the block."""

import copy
import json

import pytest
import timm
import torch
import torchvision
from timm.models.res2net import Bottle2neck
from timm.models.resnet import ResNet
from timm.models.sknet import SelectiveKernelBasic
from torch import nn

from recalib import RecalibError
from recalib.surgery import Insertion, fuse_, insert_, inserted, remove_, repeat_, sites


class OwnBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.GELU()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, x):
        return x + self.scale * self.act(self.norm(self.conv(x)))


class FrozenBlock(OwnBlock):
    def __init__(self, channels):
        super().__init__(channels)
        self.norm = torchvision.ops.FrozenBatchNorm2d(channels)


def frozen():
    return nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBlock(8))


def own():
    return nn.Sequential(nn.Conv2d(3, 8, 3), OwnBlock(8), OwnBlock(8), nn.Conv2d(8, 16, 1), OwnBlock(16))


def res2net():
    return ResNet(Bottle2neck, (1, 1, 1, 1), base_width=26, block_args={"scale": 4}, num_classes=10)


def sknet():
    return ResNet(SelectiveKernelBasic, (1, 1, 1, 1), num_classes=10)


def gernet():
    return timm.create_model("gernet_s", num_classes=10)


NETWORKS = {  # network: its first sites, and the number of sites in each stage
    own: (["1.norm", "2.norm", "4.norm"], [2, 1]),
    frozen: (["1.norm"], [1]),
    res2net: (["layer1.0.bn3", "layer2.0.bn3"], [1, 1, 1, 1]),
    sknet: (["layer1.0.conv2", "layer2.0.conv2"], [1, 1, 1, 1]),
    gernet: (["stages.0.0.conv2_kxk", "stages.1.0.conv2_kxk"], [1, 3, 7, 2, 1]),
}


@pytest.fixture(params=NETWORKS)
def make(request):
    return request.param


@pytest.fixture
def model(make, lively):
    torch.manual_seed(0)
    return lively(make()).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_sites_are_the_last_layers_of_the_branches(make, model):
    first, per_stage = NETWORKS[make]
    found = sites(model)
    assert [site.name for site in found][: len(first)] == first
    assert [sum(site.stage == stage for site in found) for stage in range(len(per_stage))] == per_stage


def test_attention_works_on_the_output_of_these_layers(model, images, lively):
    plain = copy.deepcopy(model)
    for site in insert_(model, "se").sites:
        attention = copy.deepcopy(model.get_submodule(site.name).attention)
        plain.get_submodule(site.name).register_forward_hook(lambda _, args, y, attention=attention: attention(y))
    torch.testing.assert_close(model(images), plain(images))


def test_keys_stay_and_removal_restores_the_network(model, images):
    keys, expected = list(model.state_dict()), model(images)
    insertion = insert_(model, "srm")
    new = [key for key in model.state_dict() if key not in keys]
    assert {key.split(".attention.")[0] for key in new} == {site.name for site in insertion.sites}
    assert sites(model) == list(insertion.sites)
    assert remove_(model) == insertion
    assert list(model.state_dict()) == keys
    assert torch.equal(model(images), expected)


def test_the_insertion_can_be_repeated(make, model, images):
    insert_(model, "eca", identity=True)
    other = make().eval()
    repeat_(other, Insertion.from_metadata(json.loads(json.dumps(inserted(model).metadata()))))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))


def test_a_second_module_is_refused(model):
    insert_(model, "ab")
    with pytest.raises(RecalibError, match="has a module at this site already"):
        insert_(model, "eca")


def test_looking_for_sites_leaves_the_network_alone():
    class Counting(OwnBlock):
        def __init__(self, channels):
            super().__init__(channels)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls.add_(1)
            self.last = x
            return super().forward(x)

    model = nn.Sequential(Counting(8))
    assert [site.name for site in sites(model)] == ["0.norm"]
    assert model[0].calls == 0
    assert not hasattr(model[0], "last")


def test_there_is_no_tail_to_fuse(model):
    with pytest.raises(RecalibError, match="no residual blocks whose tail is known"):
        fuse_(model)


@pytest.mark.parametrize(
    "network",
    [
        lambda: timm.create_model("vit_tiny_patch16_224"),  # branches end in linear layers
        lambda: timm.create_model("test_byobnet"),  # have squeeze-and-excitation at the site
        lambda: torchvision.models.densenet121(),  # concatenates
        lambda: torchvision.models.swin_t(),
    ],
    ids=["transformer", "attention of its own", "densenet", "swin"],
)
def test_networks_whose_branches_end_otherwise_have_no_sites(network):
    with torch.device("meta"):
        model = network()
    assert sites(model) == []
