"""Parameters added, to the last digit: the original code bases' counts (originals.md 1.7)."""

import pytest
import torch
import torchvision

from recalib.surgery import insert_

KLOMP = {  # depth: base, ab, eca, se, srm, multi_se, ge
    18: (11_689_512, 1_920, 24, 89_080, 7_680, 273_000, 758_400),
    34: (21_797_672, 3_776, 48, 161_196, 15_104, 494_916, 1_391_168),
    50: (25_557_032, 15_104, 48, 2_530_992, 60_416, 7_638_288, 5_564_672),
    101: (44_549_160, 32_512, 99, 4_777_712, 130_048, 14_430_672, 9_028_864),
    152: (60_192_808, 47_872, 150, 6_629_040, 191_488, 20_030_736, 13_289_728),
}
MODULES = {
    "ab": {},
    "eca": {},
    "se": {},
    "srm": {},
    "multi_se": {},
    "ge": {"kernel_size": (56, 28, 14, 7)},
}
ECANET = {  # the released checkpoints: network, kernels of the stages, parameters in total
    ("resnet18", "3577"): 11_689_556,
    ("resnet34", "3357"): 21_797_744,
    ("resnet50", "3557"): 25_557_112,
    ("resnet50", "3377"): 25_557_116,
    ("resnet101", "3357"): 44_549_317,
    ("resnet152", "3357"): 60_193_042,
    ("mobilenet_v2", (1, 1, 1, 1, 3, 3, 3)): 3_504_903,
}


def network(name):
    with torch.device("meta"):
        return torchvision.models.get_model(name)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("column", range(len(MODULES)), ids=list(MODULES))
@pytest.mark.parametrize("depth", KLOMP)
def test_every_module_adds_the_parameters_that_klomps_networks_have(depth, column):
    name, options = list(MODULES.items())[column]
    base, *added = KLOMP[depth]
    model = network(f"resnet{depth}")
    assert parameters(model) == base
    insertion = insert_(model, name, **options)
    assert insertion.parameters == added[column]
    assert parameters(model) == base + added[column]


@pytest.mark.parametrize(("name", "kernels"), ECANET)
def test_kernels_per_stage_give_the_parameters_of_ecanets_checkpoints(name, kernels):
    model = network(name)
    insert_(model, "eca", kernel_size=kernels)
    assert parameters(model) == ECANET[name, kernels]


def test_resnet50_with_kernels_3557_gains_the_80_parameters_of_the_eca_paper():
    assert insert_(network("resnet50"), "eca", kernel_size="3557").parameters == 80


def test_se_without_biases_gives_the_eca_papers_senet50():
    model = network("resnet50")
    insert_(model, "se", bias=False)
    assert parameters(model) == 28_071_976
