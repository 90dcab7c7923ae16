"""FLOPs as a paper counts them."""

import pytest
import torchvision
from torch import nn

from recalib import RecalibError
from recalib.attention import SE
from recalib.cost import cost
from recalib.models import cifar_resnet
from recalib.surgery import insert_

# Klomp et al. 2023, Table 2, column "FLOPs (G)", at 224 px.
TABLE_2 = {
    "resnet18": {"baseline": 1.82, "ab": 1.82, "eca": 1.82, "se": 1.82, "srm": 1.82, "multi_se": 1.83},
    "resnet50": {"baseline": 4.11, "ab": 4.12, "eca": 4.12, "se": 4.16, "srm": 4.14, "multi_se": 4.26},
}


@pytest.mark.parametrize(
    ("network", "module", "printed"),
    [(network, module, flops) for network, row in TABLE_2.items() for module, flops in row.items()],
)
def test_klomp_gives_every_printed_value_of_table_2(network, module, printed):
    model = torchvision.models.get_model(network)
    if module != "baseline":
        insert_(model, module)
    assert round(cost(model, convention="klomp").flops / 1e9, 2) == printed


def test_klomp_counts_multiply_adds_norms_and_the_last_pool():
    model = torchvision.models.resnet18()
    norms = []
    expected = cost(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _m, _i, output: norms.append(output.numel()))
    assert cost(model, convention="klomp").flops == expected.macs + 2 * sum(norms) + 50 * 512


def test_klomp_forgets_the_reduction_of_squeeze_and_excitation():
    size = (2, 64, 10, 10)
    flops = {r: cost(SE(64, reduction=r), size, convention="klomp").flops for r in (2, 16)}
    assert set(flops.values()) == {2 * (2 * 6400 + 2 * 64**2)}


def test_a_convention_decides_nothing_but_the_flops():
    model = cifar_resnet(8, attention="srm")
    standard, klomp = (cost(model, (1, 3, 32, 32), convention=name) for name in ("standard", "klomp"))
    assert (standard.params, standard.macs, standard.bytes_moved) == (klomp.params, klomp.macs, klomp.bytes_moved)
    assert standard.flops != klomp.flops
    assert sum(part.own.flops for part in klomp.modules.values()) == klomp.flops


def test_a_module_that_the_paper_does_not_count_is_named():
    with pytest.raises(RecalibError, match="'klomp' has no rule for GCT"):
        cost(cifar_resnet(8, attention="gct"), (1, 3, 32, 32), convention="klomp")


def test_an_unknown_convention_is_named():
    with pytest.raises(RecalibError, match="'klmop'; did you mean klomp"):
        cost(nn.ReLU(), convention="klmop")
