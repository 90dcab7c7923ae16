"""Published accuracies: transcribed exactly, named with their source, subtracted only within one."""

import pytest

from recalib.attention.catalogue import CATALOGUE
from recalib.choose.published import (
    accuracies,
    accuracy,
    best_source,
    deeper,
    depth_gain,
    gain,
    ladder,
    network_name,
)
from recalib.measure.cells import BASELINE
from recalib.measure.networks import DEPTHS

WEIGHTS = {
    "resnet18": "ResNet18_Weights",
    "resnet34": "ResNet34_Weights",
    "resnet50": "ResNet50_Weights",
    "resnet101": "ResNet101_Weights",
    "resnet152": "ResNet152_Weights",
    "mobilenet_v2": "MobileNet_V2_Weights",
}


def source(key):
    return next(figure.source for figure in accuracies() if figure.source.key == key)


@pytest.mark.parametrize("network", [*DEPTHS, "mobilenet_v2"])
def test_the_depth_ladder_is_what_the_installed_torchvision_says_of_its_weights(network):
    from torchvision import models

    metrics = getattr(models, WEIGHTS[network]).IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]
    figure = accuracy(network, BASELINE, ladder())
    assert (figure.top1, figure.top5) == (metrics["acc@1"], metrics["acc@5"])


def test_every_figure_names_a_source_a_place_to_read_it_and_a_recipe():
    for figure in accuracies():
        assert figure.source.title
        assert figure.source.recipe
        assert figure.source.url.startswith("https://")
        assert figure.module == BASELINE or figure.module in CATALOGUE
        assert 50 < figure.top1 < 100
        assert figure.top5 is None or figure.top1 < figure.top5 < 100


def test_a_gain_is_the_difference_to_the_baseline_of_the_same_source():
    assert gain("resnet50", "eca", source("klomp2023")) == 1.32
    assert gain("resnet50", "eca", source("ecanet")) == 2.28
    assert gain("resnet18", "multi_se", source("klomp2023")) == 0.73
    assert gain("mobilenetv2_100", "eca", source("ecanet")) == 0.92


def test_a_module_whose_source_gives_no_baseline_has_no_gain():
    assert accuracy("resnet50", "gct", source("gct_pytorch")).top1 == 77.2
    assert gain("resnet50", "gct", source("gct_pytorch")) is None
    assert gain("resnet50", "gct", source("gct_tf")) == 1.1


@pytest.mark.parametrize(
    ("model", "network"),
    [
        ("resnet50", "resnet50"),
        ("torchvision:resnet50", "resnet50"),
        ("timm:resnet50", "resnet50"),
        ("resnet50.a1_in1k", "resnet50"),
        ("mobilenetv2_100", "mobilenet_v2"),
        ("torchvision:mobilenet_v2", "mobilenet_v2"),
        ("resnet50d", None),
        ("wide_resnet50_2", None),
        ("mobilenetv2_140", None),
        ("", None),
    ],
)
def test_a_model_name_stands_for_one_published_architecture_or_for_none(model, network):
    assert network_name(model) == network


def test_modules_are_compared_within_the_source_that_has_most_of_them():
    assert best_source("resnet50", ["baseline", "ab", "eca", "gct"]).key == "klomp2023"
    assert best_source("resnet101", ["ab", "eca", "se"]).key == "ecanet"
    assert best_source("resnet34", ["ab", "eca", "se"]) is None
    assert best_source("convnext_tiny", ["se"]) is None


def test_accuracy_of_another_placement_is_never_set_against_a_time_measured_here():
    assert best_source("resnet50", ["gct"]) is None


def test_depth_gains_stay_within_the_ladders_source():
    assert (deeper("resnet50"), depth_gain("resnet50")) == ("resnet101", 1.244)
    assert (deeper("timm:resnet18"), depth_gain("torchvision:resnet18")) == ("resnet34", 3.556)
    for model in ("resnet152", "mobilenetv2_100", "regnety_040"):
        assert deeper(model) is None
        assert depth_gain(model) is None
