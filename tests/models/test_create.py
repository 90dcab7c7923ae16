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
