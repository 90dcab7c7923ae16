"""Attention after or before any module that `where` names."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from recalib import RecalibError
from recalib.attention import SE
from recalib.models import create_model
from recalib.surgery import Site, insert_, inserted, remove_


@pytest.fixture
def vgg(lively):
    torch.manual_seed(0)
    return lively(torchvision.models.vgg.make_layers([8, "M", 16, 16, "M"], batch_norm=True)).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_network_without_residual_additions_takes_attention_after_named_modules(vgg, images):
    plain = copy.deepcopy(vgg)
    insert_(vgg, "se", where=["1", "4"])
    first, second = vgg[1].attention, vgg[4].attention
    x = second(plain[2:5](first(plain[:2](images))))
    torch.testing.assert_close(vgg(images), plain[5:](x))


def test_attention_goes_before_a_named_module(vgg, images):
    plain = copy.deepcopy(vgg)
    insertion = insert_(vgg, "se", where=["4"], position="before")
    assert insertion.sites == (Site("4", 8, 0),)
    torch.testing.assert_close(vgg(images), plain[4:](vgg[4].attention(plain[:4](images))))


def test_state_dicts_do_not_show_the_wrapper(vgg):
    old = vgg.state_dict()
    insert_(vgg, "se", where=["1", "4"])
    new = vgg.state_dict()
    assert [key for key in new if ".attention." not in key] == list(old)
    assert {key.split(".attention.")[0] for key in new.keys() - old.keys()} == {"1", "4"}
    assert {name for name in new._metadata if "wrapped" in name} == set()


def test_plain_and_inserted_networks_load_each_others_checkpoints(vgg, images):
    plain = copy.deepcopy(vgg)
    insert_(vgg, "se", where=["1", "4"])
    with torch.no_grad():
        plain[0].weight.mul_(2)
    lacking = vgg.load_state_dict(plain.state_dict(), strict=False)
    assert not lacking.unexpected_keys
    assert lacking.missing_keys[:2] == ["1.attention.fc1.weight", "1.attention.fc1.bias"]
    added = plain.load_state_dict(vgg.state_dict(), strict=False)
    assert not added.missing_keys
    assert len(added.unexpected_keys) == 8
    other = copy.deepcopy(vgg)
    other.load_state_dict(vgg.state_dict(), assign=True)
    assert torch.equal(other(images), vgg(images))


def test_a_missing_key_is_reported_under_the_networks_own_name(vgg):
    state = vgg.state_dict()
    insert_(vgg, "ab", where=["1"])
    del state["1.running_mean"]
    state["1.surplus"] = torch.zeros(())
    outcome = vgg.load_state_dict(state, strict=False)
    assert outcome.missing_keys == ["1.running_mean", "1.attention.weight"]
    assert outcome.unexpected_keys == ["1.surplus"]


def test_attributes_and_items_pass_through():
    model = torchvision.models.resnet18()
    first, norm = model.layer1[0], model.bn1
    insert_(model, "ab", where=["layer1", "bn1"])
    assert model.layer1[0] is first
    assert list(model.layer1) == list(model.layer1.wrapped)
    assert model.get_submodule("layer1.0.conv1") is first.conv1
    assert model.bn1.weight is norm.weight
    model.bn1.momentum = 0.5
    assert norm.momentum == 0.5


def test_the_mode_of_what_is_wrapped_stays():
    model = torchvision.models.resnet18().train()
    model.layer1[0].bn1.eval()
    insert_(model, "srm", where=["layer1"])
    assert not model.layer1[0].bn1.training
    model.eval()
    assert not model.layer1.attention.bn.training
    assert not model.layer1[1].bn1.training


@pytest.mark.parametrize(
    ("name", "position", "channels"),
    [
        ("layer1.0.conv1", "before", 64),
        ("layer2.0", "after", 128),
        ("layer2.0", "before", 64),
        ("layer3", "after", 256),
        ("maxpool", "after", 64),
        ("layer4.0.downsample", "after", 512),
        ("layer4.0.downsample", "before", 256),
        ("relu", "before", 64),
    ],
)
def test_channels_come_from_the_module_or_from_a_dry_run(name, position, channels):
    model = torchvision.models.resnet18()
    assert insert_(model, "ab", where=[name], position=position).parameters == channels


def test_a_dry_run_leaves_mode_buffers_and_random_state_alone(images):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.ReLU()).train()
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    insert_(model, "ab", where=["3"])  # AB draws no random numbers
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in model.named_buffers())
    assert all(module.training for module in model.modules())


def test_a_module_in_a_block_belongs_to_the_blocks_stage():
    model = torchvision.models.resnet18()
    insertion = insert_(model, "eca", where=["layer3.1.bn1", "layer1.0.bn1"], kernel_size=(3, 5, 7, 9))
    assert [site.stage for site in insertion.sites] == [0, 2]
    assert [p.options["kernel_size"] for p in insertion.placements] == [3, 7]


def test_an_insertion_is_in_the_networks_order():
    model = torchvision.models.resnet18()
    insertion = insert_(model, "ab", where=["maxpool", "layer2", "bn1"])
    assert [site.name for site in insertion.sites] == ["bn1", "maxpool", "layer2"]
    assert inserted(model) == insertion


def test_a_module_without_weights_gets_attention_in_the_networks_precision():
    model = torchvision.models.resnet18().double()
    insert_(model, "se", where=["maxpool"])
    assert {p.dtype for p in model.maxpool.attention.parameters()} == {torch.float64}


def test_named_stages_are_stages():
    model = torchvision.models.resnet18()
    insertion = insert_(model, {0: "ab", 3: "se"}, where=["layer1", "layer2", "layer3", "layer4"])
    assert [(p.site.name, p.attention) for p in insertion.placements] == [("layer1", "ab"), ("layer4", "se")]


def test_a_module_that_is_used_twice_stays_shared(images):
    norm = nn.BatchNorm2d(3)
    model = nn.ModuleDict({"a": norm, "b": nn.Sequential(norm)})
    insert_(model, "ab", where=["b.0"])
    assert model["a"] is model["b"][0]
    remove_(model)
    assert model["a"] is model["b"][0] is norm


def test_two_names_of_one_module_are_refused():
    norm = nn.BatchNorm2d(3)
    with pytest.raises(RecalibError, match="b is the same module as another"):
        insert_(nn.ModuleDict({"a": norm, "b": norm}), "ab", where=["a", "b"])


def test_nested_places_keep_their_own_keys(images):
    model = torchvision.models.resnet18(num_classes=4).eval()
    keys = list(model.state_dict())
    insert_(model, "ab", where=["layer1", "layer1.0.bn1"])
    insert_(model, "se")
    state = model.state_dict()
    assert {key.split(".attention.")[0] for key in state.keys() - set(keys)} >= {"layer1", "layer1.0.bn1", "layer1.0"}
    model.load_state_dict(state)
    model(images)
    remove_(model)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("order", [("default", "named"), ("named", "default"), ("named", "named")])
def test_one_place_takes_one_module(order):
    model = torchvision.models.resnet18()
    options = {"default": {}, "named": {"where": ["layer1.0"]}}
    insert_(model, "ab", **options[order[0]])
    with pytest.raises(RecalibError, match=r"layer1\.0 has a module at this site already: attention \(AB\)"):
        insert_(model, SE, **options[order[1]])


def test_a_module_that_is_never_called_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ModuleList([nn.Identity()]))
    model[1].forward = lambda x: x
    with pytest.raises(RecalibError, match=r"where='1\.0': after it there is no map .* does not reach it"):
        insert_(model, "se", where=["1.0"])


def test_a_failing_dry_run_says_why():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(3, 4))
    with pytest.raises(RecalibError, match=r"where=\['1'\].*a run on \(1, 3, 224, 224\) failed: .*shapes"):
        insert_(model, "se", where=["1"])


# ---- where the authors of a mechanism put it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "expected", "position", "channels"),
    [
        ("simam", "torchvision:resnet50", "layer1.0.conv2", "after", 64),
        ("simam", "resnet18", "layer1.0.conv2", "after", 64),
        ("bam", "torchvision:resnet50", "layer1", "after", 256),
        ("coord", "torchvision:mobilenet_v2", "features.2.conv.2", "before", 96),
        ("coord", "mobilenetv2_100", "blocks.1.0.conv_pwl", "before", 96),
        ("cbam", "torchvision:resnet50", "layer1.0", "end", 256),
    ],
)
def test_attention_goes_where_its_authors_put_it(name, model, expected, position, channels):
    network = create_model(model)
    first = insert_(network, name, position="authors").placements[0]
    assert (first.site.name, first.position, first.site.channels) == (expected, position, channels)


def test_how_many_modules_the_authors_have():
    counts = {("bam", "torchvision:resnet50"): 3, ("simam", "resnet18"): 8, ("coord", "torchvision:mobilenet_v2"): 16}
    for (name, model), count in counts.items():
        assert len(insert_(create_model(model), name, position="authors").placements) == count


def test_a_network_without_the_authors_place_is_refused():
    with pytest.raises(RecalibError, match=r"MobileNetV2 has no module named as .*conv2, after which its authors put"):
        insert_(create_model("torchvision:mobilenet_v2"), "simam", position="authors")
    with pytest.raises(RecalibError, match="without where"):
        insert_(create_model("resnet18"), "simam", where="stages", position="authors")
