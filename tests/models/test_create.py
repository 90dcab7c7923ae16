"""One naming rule for every network."""

import pytest
import torch

from recalib import RecalibError
from recalib.models import CifarResNet, create_model


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("resnet18", "timm.models.resnet"),
        ("resnet18.a1_in1k", "timm.models.resnet"),
        ("torchvision:resnet18", "torchvision.models.resnet"),
        ("cifar_resnet20", "recalib.models.cifar_resnet"),
        ("resnet20", "recalib.models.cifar_resnet"),
        ("resnet47_bottleneck", "recalib.models.cifar_resnet"),
    ],
)
def test_a_name_says_whose_network_it_is(name, package):
    assert type(create_model(name)).__module__ == package


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "resnet20"])
def test_the_number_of_classes_is_the_networks_own_unless_given(name):
    assert create_model(name).fc.out_features == (10 if name == "resnet20" else 1000)
    assert create_model(name, num_classes=7).fc.out_features == 7


def test_a_cifar_name_spells_out_block_version_and_shortcut():
    model = create_model("cifar_resnet56_bottleneck_v2_pad")
    assert isinstance(model, CifarResNet)
    assert type(model.layer1[0]).__name__ == "PreActBottleneck"
    assert len(model.layer1) == 6
    assert not list(model.layer2[0].downsample.parameters())


def test_a_detector_is_made_without_a_download_of_its_backbone(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_a, **_k: pytest.fail("downloads weights"))
    create_model("torchvision:ssdlite320_mobilenet_v3_large")


def test_options_reach_the_network():
    assert create_model("resnet18", in_chans=1).conv1.in_channels == 1


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("resnt50", "resnet50"),
        ("torchvision:resent18", "torchvision:resnet18"),
        ("mobilenet_v2", "torchvision:mobilenet_v2"),
        ("resnet51", "resnet50"),
        ("cifar_resnet57", "56 and 62"),
    ],
)
def test_an_unknown_name_is_named_with_the_nearest_ones(name, right):
    with pytest.raises(RecalibError) as caught:
        create_model(name)
    assert right in str(caught.value)
    assert name.removeprefix("cifar_resnet") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_unlike_any_other_does_not_list_a_thousand():
    with pytest.raises(RecalibError) as caught:
        create_model("!?")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "resnet20"])
def test_an_option_that_the_network_does_not_take_is_named(name):
    with pytest.raises(RecalibError, match=r"model .* 'colour'"):
        create_model(name, colour="red")


def test_a_tag_of_pretrained_weights_that_does_not_exist_is_named():
    with pytest.raises(RecalibError, match="best_ever"):
        create_model("resnet50.best_ever")


def test_a_network_of_the_users_own(monkeypatch, tmp_path):
    (tmp_path / "mine_of_the_test.py").write_text(
        "import torch\ndef net(width=4): return torch.nn.Conv2d(3, width, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert create_model("mine_of_the_test:net").out_channels == 4
    assert create_model("mine_of_the_test:net", width=5).out_channels == 5
    for name, message in {
        "mine_of_the_test:nett": "model 'mine_of_the_test:nett': .*no attribute 'nett'; give package.module:name",
        "nobodys_package:net": "No module named 'nobodys_package'",
        "math:sqrt": "model 'math:sqrt'",
        "math:pi": "model 'math:pi' makes a float, not an nn.Module",
    }.items():
        with pytest.raises(RecalibError, match=message):
            create_model(name)


def test_weights_are_named_as_their_libraries_do():
    assert type(create_model("timm:resnet18.a1_in1k")).__name__ == "ResNet"
    assert type(create_model("torchvision:resnet18.IMAGENET1K_V1")).__module__ == "torchvision.models.resnet"
    with pytest.raises(RecalibError, match="unknown weights of torchvision:resnet18 'IMAGENET1K_V2'; did you mean"):
        create_model("torchvision:resnet18.IMAGENET1K_V2")
    with pytest.raises(RecalibError, match="has no published weights"):
        create_model("cifar_resnet20", pretrained=True)
