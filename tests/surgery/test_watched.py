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
    [lambda: timm.create_model("vit_tiny_patch16_224"), lambda: torchvision.models.swin_t()],
    ids=["N, L, C", "N, H, W, C"],
)
def test_additions_of_tokens_are_no_sites(network):
    with torch.device("meta"):
        model = network()
    assert sites(model) == []


def test_attention_of_the_networks_own_at_the_site_is_refused():
    with pytest.raises(RecalibError, match=r"stages.1.0.attn_last has a module at this site already.*SEModule"):
        insert_(timm.create_model("test_byobnet"), "eca")


class Rep(nn.Module):
    """As RepVGG in training: three parallel branches, none of which is a shortcut."""

    def __init__(self, channels):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x):
        y = self.norms[0](self.wide(x)) + self.norms[1](self.narrow(x))
        return (y + self.norms[2](x)).relu()


class Fusion(nn.Module):
    """As in feature pyramids: two maps of different origin are added."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, skip):
        return self.conv(x) + skip


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.first, self.second = Fusion(8), Fusion(8)

    def forward(self, x):
        y = self.stem(x)
        return self.second(self.first(y, torch.zeros_like(y).detach() + 1), x[:, :1].expand_as(y))


class Metaformer(nn.Module):
    """Two branches in one block, the second added to the first's sum; one is of a control flow over data."""

    def __init__(self, channels):
        super().__init__()
        self.mixer, self.mlp = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        x = x + self.mixer(x)
        if x.sum() > 1e30:
            return x
        return x + self.mlp(x).mul(0.5)


def test_parallel_branches_are_blocks_and_have_no_shortcut():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Rep(8), Rep(8))
    assert [(site.name, site.kind) for site in sites(model)] == [("1", "blocks"), ("2", "blocks")]


def test_a_sum_of_maps_of_different_origin_is_not_residual():
    assert sites(Pyramid(), "residual") == []


def test_a_block_may_add_twice_and_branch_on_what_it_sees():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Metaformer(8))
    assert [site.name for site in sites(model)] == ["1.mixer", "1.mlp"]


def test_patterns_and_classes_name_modules():
    for where in ("*.norm", "*.BatchNorm2d", nn.BatchNorm2d, ["1.norm", "2.*"], "BatchNorm2d"):
        model = own()
        names = [site.name for site in insert_(model, "se", where=where).sites]
        assert names[:2] == ["1.norm", "2.norm"] or where == ["1.norm", "2.*"]
    assert [site.name for site in insert_(own(), "se", where="OwnBlock").sites] == ["1", "2", "4"]


@pytest.mark.parametrize(("dims", "shape"), [(1, (1024,)), (3, (64, 64, 64))])
def test_sites_in_other_dimensions(dims, shape):
    conv, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"BatchNorm{dims}d")

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv(8, 8, 3, padding=1), norm(8)

        def forward(self, x):
            return (x + self.norm(self.conv(x))).relu()

    found = sites(nn.Sequential(conv(2, 8, 1), Block(), Block()))
    assert [(site.name, site.channels, site.size) for site in found] == [("1.norm", 8, shape), ("2.norm", 8, shape)]
