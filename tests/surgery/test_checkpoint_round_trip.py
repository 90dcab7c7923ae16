"""A network written by save_checkpoint comes back from load_checkpoint as it was."""

import copy
import json
import os
import stat

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from torch import nn

from recalib import RecalibError
from recalib.errors import WorkFailed
from recalib.models import cifar_resnet, create_model
from recalib.surgery import insert_, inserted, inspect_checkpoint, load_checkpoint, save_checkpoint

ATTENTION = ["ab", "eca", "eca_ns", "gct", "ge", "multi_se", "se", "se_var1", "se_var2", "se_var3", "srm"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.safetensors"


def scramble_(network: nn.Module) -> nn.Module:
    """Values that no fresh network has, in every parameter and statistic."""
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=generator).sub(0.5).mul(0.1).to(tensor.dtype))
    return network.eval()


def same(a: nn.Module, b: nn.Module, size: int = 32) -> bool:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(a.eval()(x), b.eval()(x))


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("identity", [False, True])
def test_every_attention_comes_back_with_its_network(path, name, identity):
    network = cifar_resnet(8)
    insert_(network, name, identity=identity)
    save_checkpoint(scramble_(network), path)
    loaded = load_checkpoint(path)
    assert same(loaded, network)
    assert inserted(loaded).sites == inserted(network).sites
    assert {placement.attention for placement in inserted(loaded).placements} == {name}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eca", {"kernel_size": (3, 5, 7)}),
        ("eca", {"kernel_size": "adaptive"}),
        ("se", {"reduction": 4, "bias": False}),
        ("multi_se", {"reduction": 8, "branches": 2}),
        ("srm", {"eps": 1e-3}),
        ("gct", {"mode": "l1"}),
        ("ge", {"kernel_size": (32, 16, 8)}),
        ("timm:cbam", {}),
    ],
)
def test_options_come_back(path, name, options):
    network = cifar_resnet(8)
    insert_(network, name, **options)
    save_checkpoint(scramble_(network), path)
    assert same(load_checkpoint(path), network)


def test_attention_at_some_sites_and_at_named_modules_comes_back(path):
    network = torchvision.models.resnet18(num_classes=5)
    insert_(network, "eca", where=lambda site: site.stage > 1)
    insert_(network, "gct", where=["layer1.0.conv1", "maxpool"], position="before")
    insert_(network, "ab", where=["layer2.1.bn1"])
    save_checkpoint(scramble_(network), path)
    loaded = load_checkpoint(path)
    assert same(loaded, network)
    assert inserted(loaded).sites == inserted(network).sites


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet26t",
        "mobilenetv2_035",
        "torchvision:resnet18",
        "torchvision:mobilenet_v2",
        "torchvision:mobilenet_v3_small",
        "cifar_resnet11_bottleneck_v2_pad",
    ],
)
def test_the_network_is_built_from_the_file_alone(path, name):
    network = scramble_(create_model(name, num_classes=7))
    save_checkpoint(network, path)
    loaded = load_checkpoint(path)
    assert type(loaded) is type(network)
    assert same(loaded, network, 64)


def test_an_architecture_may_be_named(path):
    network = scramble_(create_model("torchvision:regnet_x_400mf", num_classes=7))
    save_checkpoint(network, path, architecture="torchvision:regnet_x_400mf")
    assert inspect_checkpoint(path).architecture == "torchvision:regnet_x_400mf"
    assert same(load_checkpoint(path), network, 64)


def test_a_network_that_differs_from_its_name_is_told_by_its_own_keys(path):
    network = scramble_(timm.create_model("resnet50", layers=(1, 1, 1, 1), stem_type="deep", stem_width=32))
    save_checkpoint(network, path)
    assert same(load_checkpoint(path), network)


def test_a_network_that_cannot_be_told_is_saved_with_a_warning_and_needs_model(path, caplog):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    save_checkpoint(network, path)
    assert "Sequential is no network that is known by name" in caplog.text
    with pytest.raises(RecalibError, match=r"cannot be told.*give it as model="):
        load_checkpoint(path)
    fresh = copy.deepcopy(network)
    nn.init.zeros_(fresh[0].weight)
    assert load_checkpoint(path, model=fresh) is fresh
    assert torch.equal(fresh[0].weight, network[0].weight)


def test_other_strides_than_the_names_are_noticed(path, caplog):
    network = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True])
    save_checkpoint(network, path)
    assert "load_checkpoint will need model=" in caplog.text


def test_metadata_and_normalization_are_kept(path):
    mean_std = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    save_checkpoint(cifar_resnet(8), path, epoch=3, notes={"lr": 0.1}, normalization=mean_std)
    info = inspect_checkpoint(path)
    assert info.metadata == {"epoch": 3, "notes": {"lr": 0.1}}
    assert info.normalization == mean_std
    assert (info.format, info.architecture, info.num_classes) == ("recalib", "cifar_resnet8", 10)


def test_timms_normalization_is_taken_from_its_configuration(path):
    save_checkpoint(timm.create_model("mobilenetv2_035"), path)
    assert inspect_checkpoint(path).normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_header_is_plain_json_that_names_this_version(path):
    import recalib

    save_checkpoint(cifar_resnet(8, attention="eca"), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["recalib"])
    assert header["version"] == recalib.__version__
    assert header["architecture"]["name"] == "cifar_resnet8"


def test_metadata_that_is_not_plain_is_refused(path):
    with pytest.raises(RecalibError, match="metadata of a checkpoint is plain data"):
        save_checkpoint(cifar_resnet(8), path, optimizer=torch.optim.SGD)


def test_kernels_come_from_the_weights_whatever_the_header_says(path):
    network = cifar_resnet(8)
    insert_(network, "eca", kernel_size=(3, 5, 7))
    for block in network.blocks():
        block.__dict__["placement"]["options"]["kernel_size"] = 9
    save_checkpoint(network, path)
    assert inspect_checkpoint(path).kernels == (3, 5, 7)
    assert same(load_checkpoint(path), network)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_network_is_saved_as_the_network_inside(path, wrap):
    network = scramble_(cifar_resnet(8))
    save_checkpoint(wrap(network), path)
    assert same(load_checkpoint(path), network)


def test_a_shared_module_is_saved_under_each_of_its_names(path):
    network = nn.ModuleDict({"a": nn.Linear(2, 2)})
    network["b"] = network["a"]
    save_checkpoint(network, path)
    fresh = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    load_checkpoint(path, model=fresh)
    assert torch.equal(fresh["b"].weight, network["a"].weight)


def test_a_half_precision_network_comes_back_in_the_precision_of_the_model_it_is_loaded_into(path):
    network = scramble_(cifar_resnet(8)).half()
    save_checkpoint(network, path)
    assert load_checkpoint(path).fc.weight.dtype == torch.float32
    assert load_checkpoint(path, model=cifar_resnet(8).double()).fc.weight.dtype == torch.float64


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, step):
    save_checkpoint(cifar_resnet(8), path, epoch=1)
    monkeypatch.setattr(os, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WorkFailed, match=r"network.safetensors: cannot be written \(No space left on device\)"):
        save_checkpoint(cifar_resnet(8), path, epoch=2)
    assert inspect_checkpoint(path).metadata == {"epoch": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(WorkFailed, match="No such file or directory"):
        save_checkpoint(cifar_resnet(8), tmp_path / "none" / "x.safetensors")


def test_the_file_is_as_readable_as_other_files(path):
    save_checkpoint(cifar_resnet(8), path)
    (path.parent / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "other").stat().st_mode)
