"""Counts as people read them."""

import pytest
import torchvision

from recalib.cost import cost
from recalib.cost.units import binary, si
from recalib.surgery import insert_


@pytest.mark.parametrize(
    ("network", "kernels", "printed"),  # README of BangguWu/ECANet, column "Parameters", M for 2^20
    [
        ("resnet50", (3, 5, 5, 7), "24.37"),
        ("resnet101", (3, 3, 5, 7), "42.49"),
        ("resnet152", (3, 3, 5, 7), "57.41"),
        ("mobilenet_v2", (1, 1, 1, 1, 3, 3, 3), "3.34"),
    ],
)
def test_binary_prints_the_parameters_of_ecanets_readme_to_the_last_digit(network, kernels, printed):
    model = torchvision.models.get_model(network)
    insert_(model, "eca", kernel_size=kernels)
    assert binary(cost(model).params) == f"{printed} Mi"


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (25_557_032, "25.56 M"),
        (4_089_184_256, "4.09 G"),
        (3 * 10**12, "3.00 T"),
    ],
)
def test_si_prints_powers_of_a_thousand(count, printed):
    assert si(count) == printed


@pytest.mark.parametrize(
    ("count", "printed"), [(1023, "1023"), (1024, "1.00 Ki"), (25_557_032, "24.37 Mi"), (2**30 * 7 // 2, "3.50 Gi")]
)
def test_binary_prints_powers_of_1024(count, printed):
    assert binary(count) == printed
